"""The state of each part of the platform, as the operators' status shows it.

``healthy`` does its work, ``degraded`` does some of it, ``down`` does none.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from kombu import Connection
from kombu.exceptions import KombuError

from rest.times import rfc3339
from tasks.clock import database_now
from tasks.models import Leader
from tasks.selectors.machinery import QueueState, queue_states
from tasks.selectors.pools import PoolState, pool_states
from tasks.selectors.waiting import LEADER_SILENCE_SECONDS

HEALTHY, DEGRADED, DOWN = "healthy", "degraded", "down"
REACH_SECONDS = 0.5
"""A broker or Redis that takes longer to answer counts as not reachable."""


@dataclass(frozen=True, slots=True)
class Component:
    """One part: its name, how it is, and a sentence for people."""

    name: str
    status: str
    detail: str


def platform_status() -> dict[str, Any]:
    """Return ``{"status", "components", "oldest_wait", "checked_at"}``; the wait is in seconds.

    The whole is ``down`` when no new task can start: no broker, no dispatcher, or neither a worker nor
    a pool that would start one.
    """
    now = database_now()
    pools, queues = pool_states(), queue_states()
    essential = [_database(), _broker(), _dispatcher(now)]
    components = [*essential, _redis(), *_pools(pools, queues)]
    waits = [(now - queue.oldest).total_seconds() for queue in queues if queue.oldest]
    return {
        "status": overall(components, essential, able=any(map(_able, pools))),
        "components": [asdict(component) for component in components],
        "oldest_wait": max(0.0, *waits) if waits else None,
        "checked_at": rfc3339(now),
    }


def overall(components: list[Component], essential: list[Component], *, able: bool) -> str:
    """Return the status of the whole; ``able``: some pool takes tasks."""
    if not able or any(component.status == DOWN for component in essential):
        return DOWN
    if any(component.status != HEALTHY for component in components):
        return DEGRADED
    return HEALTHY


def _database() -> Component:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    taken = (time.monotonic() - began) * 1000
    return Component("database", HEALTHY, f"It answers within {taken:.1f} ms.")


def _broker() -> Component:
    # The option names differ by transport; each ignores those of the others.
    patience = {"socket_timeout": REACH_SECONDS, "socket_connect_timeout": REACH_SECONDS}
    broker = Connection(
        settings.SWITCHYARD.broker,
        connect_timeout=REACH_SECONDS,
        transport_options={**patience, "retry_on_timeout": False, "max_retries": 0},
    )
    away: tuple[type[BaseException], ...] = (
        OSError,
        KombuError,
        redis.RedisError,
        *broker.connection_errors,
    )
    try:
        # Once: `connect()` would try again after two seconds.
        broker.transport.close_connection(broker.transport.establish_connection())
    except away:
        return Component("broker", DOWN, "It cannot be reached: no task can start.")
    finally:
        broker.release()
    return Component("broker", HEALTHY, "It can be reached.")


def _redis() -> Component:
    client = redis.Redis.from_url(
        settings.SWITCHYARD.redis_url,
        socket_timeout=REACH_SECONDS,
        socket_connect_timeout=REACH_SECONDS,
    )
    try:
        client.ping()
    except redis.RedisError:
        return Component("redis", DOWN, "It cannot be reached: live views lag behind.")
    finally:
        client.close()
    return Component("redis", HEALTHY, "It can be reached.")


def _dispatcher(now: datetime) -> Component:
    leader = Leader.objects.order_by("-renewed_at").first()
    if leader is None or now - leader.renewed_at > timedelta(seconds=LEADER_SILENCE_SECONDS):
        return Component("dispatcher", DOWN, "None leads: no task can start.")
    return Component("dispatcher", HEALTHY, f"{leader.holder} leads (epoch {leader.epoch}).")


def _pools(pools: list[PoolState], queues: list[QueueState]) -> list[Component]:
    waiting = {queue.name: queue.ready + queue.parked for queue in queues}
    return [_pool(pool, waiting[pool.name]) for pool in pools]


def _able(pool: PoolState) -> bool:
    return bool(pool.alive) or any(machine.most for machine in pool.machines)


def _pool(pool: PoolState, waiting: int) -> Component:
    name = f"pool {pool.name}"
    if not pool.machines and not pool.alive:
        if waiting:
            return Component(name, DOWN, f"No machine serves it; {waiting} wait.")
        return Component(name, HEALTHY, "No machine serves it, and nothing waits.")
    if not _able(pool):
        return Component(name, DEGRADED, f"It is scaled to 0: what is submitted waits, {waiting} now.")
    least = sum(machine.least for machine in pool.machines)
    if not pool.alive and least:
        return Component(name, DOWN, f"No worker takes tasks; {waiting} wait.")
    if not pool.alive and not pool.target:
        return Component(name, HEALTHY, "It rests at 0 slots until a task waits.")
    status = HEALTHY if pool.slots >= min(least, pool.target) else DEGRADED
    workers = f"{pool.alive} worker{'s' if pool.alive != 1 else ''}"
    busy = f"{pool.busy} of {pool.slots} slots busy"
    return Component(name, status, f"{workers}, {busy}, {waiting} wait.")
