"""Everything that can go wrong, as functions of a stage: the dice of the soak choose among them."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from ops.supervision.processes import children
from tests.chaos.proxy import Proxy, Way
from tests.chaos.stage import ARMED, Stage

Fault = Callable[[Stage, random.Random], None]

QUEUES = ("critical", "normal", "batch")
ROLES = ("web", "dispatcher", "worker", "*")
SHORTEST, LONGEST = 0.5, 4.0
"""Seconds that a freeze or an outage lasts: also longer than the stage's leases (3 s)."""


def kill_a_supervisor(stage: Stage, dice: random.Random) -> None:
    """SIGKILL a child of a pool."""
    os.kill(_child(stage, dice), signal.SIGKILL)


def stop_a_supervisor(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP a child of a pool and wake it up later, perhaps as a zombie."""
    _pause(_child(stage, dice), dice)


def kill_a_worker(stage: Stage, dice: random.Random) -> None:
    """SIGKILL the main process of a pool."""
    stage.platform.signal(dice.choice(QUEUES))


def drain_a_worker(stage: Stage, dice: random.Random) -> None:
    """SIGTERM the main process of a pool, as a deployment does."""
    stage.platform.signal(dice.choice(QUEUES), signal.SIGTERM)


def kill_a_component(stage: Stage, dice: random.Random) -> None:
    """SIGKILL web, dispatcher, pool manager, beat or system worker."""
    stage.platform.signal(dice.choice(["web", "dispatcher", "dispatcher", "pools", "beat", "system"]))


def stop_the_dispatcher(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP the leader beyond its lease."""
    _pause(stage.platform.pid("dispatcher"), dice)


def flush_the_broker(stage: Stage, dice: random.Random) -> None:
    """FLUSHALL."""
    with stage.servers.broker() as broker:
        broker.flushall()


def kill_the_broker(stage: Stage, dice: random.Random) -> None:
    """SIGKILL Valkey, which comes back empty."""
    stage.servers.kill_valkey()


def freeze_the_broker(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP Valkey."""
    with stage.servers.frozen_valkey():
        _while(dice)


def fill_the_broker(stage: Stage, dice: random.Random) -> None:
    """Let Valkey refuse every write for want of memory."""
    with stage.servers.broker() as broker:
        broker.config_set("maxmemory", 1)
        try:
            _while(dice)
        finally:
            broker.config_set("maxmemory", 0)


def copy_messages(stage: Stage, dice: random.Random) -> None:
    """Put every waiting message on its queue ten times more."""
    with stage.servers.broker() as broker:
        for queue in QUEUES:
            for message in broker.lrange(queue, 0, -1):  # type: ignore[union-attr]
                broker.lpush(queue, *[message] * 10)


def crash_the_database(stage: Stage, dice: random.Random) -> None:
    """Restart PostgreSQL as ``pg_ctl restart -m immediate`` does."""
    stage.servers.restart_database()


def freeze_the_database(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP every process of PostgreSQL."""
    with stage.servers.frozen_database():
        _while(dice)


def kill_a_backend(stage: Stage, dice: random.Random) -> None:
    """SIGKILL one server process of PostgreSQL."""
    backends = stage.servers.backends(dice.choice(["web", "dispatcher", "worker"]))
    os.kill(dice.choice(backends), signal.SIGKILL)


def cut_connections(stage: Stage, dice: random.Random) -> None:
    """Cut the existing connections to one server."""
    _proxy(stage, dice).cut(dice.choice(ROLES))


def cut_a_commit(stage: Stage, dice: random.Random) -> None:
    """Cut a connection before its COMMIT is heard, or before the answer is."""
    role = dice.choice(ROLES)
    dice.choice([stage.database.cut_after_commit, stage.database.cut_before_commit])(role)


def partition(stage: Stage, dice: random.Random) -> None:
    """Separate one role, or all, from one server for a while."""
    proxy, role = _proxy(stage, dice), dice.choice(ROLES)
    proxy.set(dice.choice([Way.CLOSED, Way.FROZEN, Way.DEAF, Way.SLOW]), role)
    try:
        _while(dice)
    finally:
        proxy.open()


def reach_a_fault_point(stage: Stage, dice: random.Random) -> None:
    """Have whoever comes next to a step of a task's life die or stop there."""
    stage.arm(dice.choice(ARMED).partition(":")[0])


FAULTS: dict[Fault, int] = {
    kill_a_supervisor: 6,
    stop_a_supervisor: 2,
    kill_a_worker: 2,
    drain_a_worker: 1,
    kill_a_component: 3,
    stop_the_dispatcher: 1,
    flush_the_broker: 2,
    kill_the_broker: 1,
    freeze_the_broker: 1,
    fill_the_broker: 1,
    copy_messages: 2,
    crash_the_database: 1,
    freeze_the_database: 1,
    kill_a_backend: 1,
    cut_connections: 2,
    cut_a_commit: 3,
    partition: 3,
    reach_a_fault_point: 5,
}
"""Each fault with its weight."""


def _child(stage: Stage, dice: random.Random) -> int:
    return dice.choice(children(stage.platform.pid(dice.choice(QUEUES))))


def _proxy(stage: Stage, dice: random.Random) -> Proxy:
    return dice.choice([stage.database, stage.channels, stage.broker])


def _pause(pid: int, dice: random.Random) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        _while(dice)
    finally:
        os.kill(pid, signal.SIGCONT)


def _while(dice: random.Random) -> None:
    """Let the trouble last; nothing is waited for but the time itself."""
    time.sleep(dice.uniform(SHORTEST, LONGEST))
