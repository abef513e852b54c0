"""Celery's prefork pool, mended for children that run exactly one task.

Stock prefork with max-tasks-per-child=1 runs 6 to 9 no-op tasks a second on two cores and now and
then leaves a slot empty for five seconds. Ten causes were measured; each method below says which
one it removes:

1. The child's sentinel pipe closes before the child can be reaped; the pool looks once, finds
   nothing, has already stopped watching, and refills the slot only at its five second timer
   (celery#9588).
2. A child that has reported its result sleeps 100 ms between looks whether the parent has read it.
3. ``gc.collect()`` before each fork walks the whole Django heap in the event loop: 20 to 60 ms.
4. Each child parses a C declaration (cffi) to set its parent-death signal: 3 to 20 ms.
5. A child that has reported its result is marked free; the next job is written into the pipe of a
   dying process and has to be taken back.
6. The pipes of a dead child are read with a wait of 10 ms, twice per exit, in the event loop.
7. Each child looks for its result backend in the metadata of every installed package: 10 ms.
8. Each child makes new locks for every logger of the process, which Python does by itself since 3.9,
   and touches hundreds of shared pages by it: 3 ms.
9. Each child sets up logging, finalises the app and builds the tracer of every task, all of which it has
   inherited: 3 ms.
10. Each child takes the parent's connections to the broker and Django's caches apart, object by object,
    to close copies of descriptors that end with it anyway: 700 pages that are copied for it, 4 ms.
11. The parent, which is busy, shares its memory with each child, and copies what it writes next: 3 ms.
12. A slot stands empty while its child leaves, is reaped, and the next one is forked and connects: 8 ms.

The child's side, which is not billiard's, is `workers.pool_child` (causes 2, 4, 8, 9 and 10); who forks
it is `workers.fork_server` (cause 11).

These are private interfaces of celery and billiard, so the versions are pinned and checked at
import.
"""

from __future__ import annotations

import os
from importlib import metadata
from types import GeneratorType
from typing import Any, cast

from billiard import pool as billiard_pool
from billiard import popen_fork
from billiard.context import ForkProcess
from celery import signals
from celery.app import trace
from celery.concurrency import asynpool, prefork
from celery.exceptions import ImproperlyConfigured
from celery.utils.log import get_logger

from workers.fork_server import ForkServer
from workers.heap import collapse_memory, settle_heap
from workers.pool_child import OneShotChild, becoming
from workers.worker_steps import note_dead_child

__all__ = ("OneShotPool", "TaskPool", "require_verified_versions")

logger = get_logger(__name__)

#: What this module, `workers.broker` and `workers.worker_consumer` were read against and tested
#: with.
VERIFIED = {"celery": "5.7.0", "billiard": "4.3.2", "kombu": "5.7.0"}

#: Seconds between two looks whether an exiting child can be reaped, doubled each time up to the
#: longest.
FIRST_REAP_LOOK = 0.001
LONGEST_REAP_LOOK = 0.25

#: Seconds between the pool's own rounds over all children: the net under everything above.
MAINTAIN_EVERY = 1.0


def require_verified_versions(installed: dict[str, str]) -> None:
    """Refuse any version of celery, billiard or kombu that this code was not verified with.

    Raises `ImportError` naming each difference and what to do about it.
    """
    different = [
        f"{name} {installed.get(name)} (verified: {version})"
        for name, version in VERIFIED.items()
        if installed.get(name) != version
    ]
    if different:
        raise ImportError(
            "The worker pool relies on private interfaces and was not verified with "
            + ", ".join(different)
            + ". Install the pinned versions; or compare asynpool.py, billiard/pool.py, "
            "worker/consumer and transport/redis.py with workers/worker_pool.py, workers/broker.py "
            "and workers/worker_consumer.py, run tests/workers and bench/worker_pool.py, and only "
            "then change VERIFIED."
        )


require_verified_versions({name: metadata.version(name) for name in VERIFIED})


def spare_children(slots: int) -> int:
    """Return how many children there are beside those of the slots: one takes the next job while the
    last one's child leaves (cause 12).

    With more slots than processors these have enough to do meanwhile, and one more only takes turns
    from the others (4 slots on two processors were slower for it).
    """
    return int(slots <= (os.cpu_count() or 1))


def freeze_heap() -> None:
    """Collect once and move everything that lives out of the collector's sight (cause 3).

    After it neither the parent's collector nor a child's walks the Django heap again, so a child
    also keeps sharing those pages with its parent (measured: 7.6 instead of 12.6 MiB private per
    child). In huge pages a fork has fewer entries to copy, and an exit fewer to take down.
    """
    settle_heap()
    collapse_memory()


def prepare_tracing(app: Any, hostname: str) -> None:
    """Build what runs a task once, for every child to inherit (cause 9)."""
    app.set_current()
    app.finalize()
    cast(Any, trace)._tasks = app._tasks
    for name, task in app.tasks.items():
        task.__trace__ = trace.build_tracer(name, task, app.loader, hostname, app=app)


def leave_connections_alone(app: Any) -> None:
    """Spare children Celery's closing of Django's connections and caches (cause 10).

    A child inherits no open connection (`worker_steps.close_database`), and takes one task.
    """
    for each in cast(Any, app)._fixups:
        fixup = getattr(each, "worker_fixup", None)
        if fixup is None:
            continue
        signals.worker_process_init.disconnect(fixup.on_worker_process_init)
        signals.task_prerun.disconnect(fixup.on_task_prerun)
        signals.task_postrun.disconnect(fixup.on_task_postrun)


class OneShotPopen(popen_fork.Popen):  # type: ignore[misc]
    """A child that the fork server has forked; it is reaped and signalled as billiard's own are."""

    def _launch(self, process_obj: Any) -> None:
        worker = process_obj._target
        self.sentinel, theirs = os.pipe()
        try:
            ends = (worker.inq._reader.fileno(), worker.outq._writer.fileno(), theirs)
            self.pid = process_obj.fork_server.fork(ends, worker.inqW_fd)
        except OSError:
            self.close()
            raise
        finally:
            os.close(theirs)


class OneShotProcess(ForkProcess):
    """A child as the parent knows it."""

    fork_server: ForkServer

    @staticmethod
    def _Popen(process_obj: Any) -> OneShotPopen:  # noqa: N802 - billiard's name
        return OneShotPopen(process_obj)


class OneShotPool(asynpool.AsynPool):
    """The parent's side: a fixed number of slots, a fresh child for every job.

    There may be a child more than ``processes`` (`spare_children`); no more jobs than those are sent.

    Raises `ImproperlyConfigured` when asked for children that live longer: they would never be
    given a second job here. Workers that keep their children use Celery's own prefork pool.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("maxtasksperchild") != 1:
            raise ImproperlyConfigured(
                "This pool runs one task per child: leave worker_max_tasks_per_child at 1, "
                "or start the worker with SWITCHYARD_ROLE=system to keep its children."
            )
        child = OneShotChild(*kwargs["initargs"])
        self._fork_server = ForkServer(child.begin, self._before_fork, becoming("fork server"))
        self._fork_server.start()
        self._spare = spare_children(kwargs["processes"])
        kwargs["processes"] += self._spare
        super().__init__(*args, **kwargs)

    @property
    def slots(self) -> int:
        """How many jobs may run at once."""
        return int(cast(Any, self)._processes) - self._spare

    def _before_fork(self) -> None:
        signals.worker_before_create_process.send(sender=self)

    def Process(self, *args: Any, **kwargs: Any) -> OneShotProcess:  # noqa: N802 - billiard's name
        """Make the process object of a child."""
        process = OneShotProcess(*args, **kwargs)
        process.fork_server = self._fork_server
        return process

    def _create_worker_process(self, i: int) -> Any:
        """Fork a child without the collection that AsynPool runs first (cause 3)."""
        return cast(Any, super(asynpool.AsynPool, self))._create_worker_process(i)

    def on_job_ready(self, job: Any, i: Any, obj: Any, inqueue: int) -> None:
        """Leave the child marked busy: it is about to exit (cause 5). Its exit frees the slot."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        """The child closed its sentinel pipe: stop watching that, and reap as soon as it can be."""
        cast(Any, self)._untrack_child_process(proc, hub)
        self._reap(hub, proc, FIRST_REAP_LOOK)

    def _reap(self, hub: Any, proc: Any, look_again: float) -> None:
        """Refill the slot once the process is really gone; until then look again soon (cause 1).

        The looks grow rarer, so a child that closed all its descriptors and lives on costs little.
        """
        if proc.exitcode is None:
            hub.call_later(look_again, self._reap, hub, proc, min(look_again * 2, LONGEST_REAP_LOOK))
            return
        cast(Any, self).maintain_pool()

    def _join_exited_workers(self, shutdown: bool = False) -> Any:
        """Tell of children that ended badly, found by their pipe or by the round of every second."""
        before = list(cast(Any, self)._pool)
        joined = cast(Any, super())._join_exited_workers(shutdown)
        for proc in before:
            if proc not in cast(Any, self)._pool and proc.exitcode != 0:
                note_dead_child(proc.pid, proc.exitcode)
        return joined

    def process_flush_queues(self, proc: Any) -> None:
        """Read what a dead child left in its result pipe, without waiting for more (cause 6).

        A dead process writes nothing, so whatever is not there now never comes. A message that the
        event loop had begun to read is finished by its own reader: reading afresh would take the
        rest of it for the head of a new one.
        """
        handler = cast(Any, self)._result_handler
        reader = proc.outq._reader
        if reader.closed or cast(Any, self)._state == billiard_pool.TERMINATE:
            return
        if handler._hub is not None:
            begun, _args = handler._hub.readers.get(reader.fileno()) or (None, ())
            if isinstance(begun, GeneratorType):
                try:
                    next(begun)
                except StopIteration:
                    pass
                except (OSError, EOFError):
                    return
                else:
                    return
        while reader.poll(0):
            try:
                message = reader.recv()
            except (OSError, EOFError):
                return
            if message is None:
                return
            handler.on_state_change(message)

    @property
    def timers(self) -> dict[Any, Any]:
        """Rounds of `maintain_pool` every second instead of every five."""
        return {cast(Any, self).maintain_pool: MAINTAIN_EVERY}


class TaskPool(prefork.TaskPool):
    """What ``worker_pool`` names: Celery's prefork pool over `OneShotPool`."""

    Pool = OneShotPool

    @property
    def num_processes(self) -> int:
        """How many tasks may run at once: for so many the consumer takes messages."""
        return int(cast(Any, self)._pool.slots)

    def on_start(self) -> None:
        """Freeze the heap, and fork: first the fork server, while nothing is open, then children."""
        if self.options.get("threads", True):
            raise ImproperlyConfigured(
                "This pool needs Celery's event loop: use a redis:// or amqp:// broker."
            )
        # Cause 7: found once here, every child inherits it.
        _ = self.app.backend
        leave_connections_alone(self.app)
        prepare_tracing(self.app, self.options["initargs"][1])
        freeze_heap()
        super().on_start()
