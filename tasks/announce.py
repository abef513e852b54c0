"""Telling whoever watches that a task has new events, after they are stored.

An announcement is a doorbell: it names the task and its newest number, and listeners read the rows
again from the database. Losing one delays a watcher by its next poll and costs nothing else, so it
is never waited for longer than :data:`TIMEOUT_SECONDS` and never raises.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from queue import Full, Queue
from threading import Thread
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import transaction

TIMEOUT_SECONDS = 0.2
PAUSE_SECONDS = 1.0
"""After a failure nothing is tried for this long: a frozen Redis must not slow every commit."""

MOST_WAITING = 10_000

RELAY_VARIABLE = "SWITCHYARD_ANNOUNCER"
"""Environment variable with the socket of whoever announces for this machine's workers."""

log = structlog.get_logger(__name__)


def task_group(task_id: uuid.UUID | str) -> str:
    """Return the channel group of one task's watchers; built from ids only, never from input."""
    return f"task-{uuid.UUID(str(task_id)).hex}"


def tenant_group(tenant_id: int) -> str:
    """Return the channel group of one tenant's feed."""
    return f"tenant-{int(tenant_id)}"


def channel_of(prefix: str, group: str) -> str:
    """Return the Redis channel on which the PubSub channel layer carries a group's messages."""
    return f"{prefix}__group__{group}"


def announce_on_commit(task_id: uuid.UUID, tenant_id: int, seq: int) -> None:
    """Announce event ``seq`` of a task once the current transaction is committed."""
    transaction.on_commit(lambda: announce(task_id, tenant_id, seq), robust=True)


def announce(task_id: uuid.UUID, tenant_id: int, seq: int) -> None:
    """Announce event ``seq`` of a task now; it must be committed."""
    _sender()(task_id, tenant_id, seq)


def announce_all(news: Mapping[tuple[uuid.UUID, int], int]) -> None:
    """Announce now, from this process, the newest number of each (task, tenant)."""
    _announcer().send_all(news)


def warm_up() -> None:
    """Prepare what announcing needs, short of a connection, for children that this process forks.

    Each that announces by itself would otherwise look up package versions and load ciphers: 16 ms.
    """
    _sender()
    if RELAY_VARIABLE not in os.environ:
        _announcer().warm_up()


class _Announcer:
    """A synchronous publisher for the channel layer, with one connection per process.

    The layer's own ``group_send`` needs an event loop and, called from a short-lived child, opens a
    connection per call; its wire format (a serialised message published to the group's channel) is
    two lines.
    """

    def __init__(self) -> None:
        # Not for a worker, whose machine announces for it: its forks would pay for the 7 MiB.
        from channels_redis.serializers import registry

        config: dict[str, Any] = settings.CHANNEL_LAYERS["default"]["CONFIG"]  # type: ignore[assignment]
        self._prefix = config["prefix"]
        self._serializer = registry.get_serializer(
            "msgpack", symmetric_encryption_keys=config["symmetric_encryption_keys"]
        )
        self._redis = redis.Redis.from_url(
            config["hosts"][0],
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry_on_timeout=False,
            # Telling the server which library speaks costs three round trips and a search of all
            # installed packages.
            driver_info=None,
            protocol=2,
        )
        self._paused_until = 0.0

    def warm_up(self) -> None:
        self._serializer.serialize({})
        self._redis.connection_pool.make_connection()

    def send(self, task_id: uuid.UUID, tenant_id: int, seq: int) -> None:
        self.send_all({(task_id, tenant_id): seq})

    def send_all(self, news: Mapping[tuple[uuid.UUID, int], int]) -> None:
        if time.monotonic() < self._paused_until:
            return
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for (task_id, tenant_id), seq in news.items():
                told = {"type": "task.event", "task": str(task_id), "seq": seq}
                message = self._serializer.serialize(told)
                for group in (task_group(task_id), tenant_group(tenant_id)):
                    pipeline.publish(channel_of(self._prefix, group), message)
            pipeline.execute()
        except redis.RedisError as error:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.info("announcements_lost", count=len(news), error=str(error))


@cache
def _announcer() -> _Announcer:
    return _Announcer()


@cache
def _sender() -> Callable[[uuid.UUID, int, int], None]:
    """Return how this process announces: by itself, behind the answers it gives, or by its machine."""
    if settings.SWITCHYARD.role == "web":
        return _Behind().send
    relay = os.environ.get(RELAY_VARIABLE)
    return _Relay(relay).send if relay else _announcer().send


class _Relay:
    """Hands announcements to the machine's pool manager, in datagrams (:mod:`ops.pools.announcing`).

    A supervisor says three things in its life. A connection to Redis of its own, with encryption set up
    for it, cost each run 3 ms and the server a new client.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, task_id: uuid.UUID, tenant_id: int, seq: int) -> None:
        try:
            self._socket.sendto(f"{task_id} {tenant_id} {seq}".encode(), self._path)
        except OSError:  # it starts again, or has more to do than it can: then by ourselves
            _announcer().send(task_id, tenant_id, seq)


class _Behind:
    """Sends from one thread, in order. When it falls behind, the newest are lost: a doorbell may be."""

    def __init__(self) -> None:
        self._waiting: Queue[tuple[uuid.UUID, int, int]] = Queue(MOST_WAITING)
        Thread(target=self._run, name="announce", daemon=True).start()

    def send(self, task_id: uuid.UUID, tenant_id: int, seq: int) -> None:
        with suppress(Full):
            self._waiting.put_nowait((task_id, tenant_id, seq))

    def _run(self) -> None:
        while True:
            news = self._waiting.get()
            try:
                _announcer().send(*news)
            except Exception:
                # A lost doorbell costs a watcher its next poll; a thread that has died, all of them.
                log.exception("announcement_lost")
