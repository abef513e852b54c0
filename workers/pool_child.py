"""The child's side of the worker pool: one job, on the wire as Celery's own children speak.

Unlike a stock child it announces no DEATH and does not sleep until the parent answers with a SIGTERM.
That saves a round trip through a busy event loop; a handler for SIGTERM that somebody left behind no
longer costs a second per task; and the parent never signals a process id that may already belong to
somebody else. Nor does it wait until its result is read: the parent reads what a dead child has left.

It is forked from a process that has loaded, set up and built all it needs, so it does nothing of that
again, and does not run what modules have registered for billiard's forks.

A child copies every page of what it touches, so it goes to its work by the shortest way: a task with the
option ``untraced`` is called as it is, without Celery's tracer and what that tells of (a sixth of the
functions that a supervisor used to call).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import sys
import time

# Without the enumerations through which the module `signal` goes, for each signal.
from _signal import signal as take_signal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, cast

from billiard import common, pool
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.app.trace import fast_trace_task, trace_task_ret
from celery.concurrency import asynpool, prefork
from celery.utils.log import get_logger

from rest.strict_json import scan_own

__all__ = ("OneShotChild", "becoming")

logger = get_logger(__name__)

# The stubs know neither.
billiard_common: Any = common
WORKER_UP: int = cast(Any, asynpool).WORKER_UP

#: linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

#: What Celery has a child call, with the task's name first and its message's body as the fourth.
TRACERS = (fast_trace_task, trace_task_ret)

#: Before each message between parent and child: its length.
HEADER = struct.Struct("!i")


def _ways() -> Iterator[tuple[str, Any]]:
    """How Celery's children take signals (cause 9); of two for a signal the later one counts."""
    for name in cast(Any, prefork).WORKER_SIGRESET:
        yield name, signal.SIG_DFL.value
    for name in (*cast(Any, prefork).WORKER_SIGIGNORE, *billiard_common.TERMSIGS_IGNORE):
        yield name, signal.SIG_IGN.value
    for name in billiard_common.TERMSIGS_DEFAULT:
        yield name, billiard_common._shutdown_cleanup
    yield "SIGUSR1", pool.soft_timeout_sighandler


WAYS = tuple({signal.Signals[name].value: way for name, way in _ways()}.items())


def becoming(name: str) -> Callable[[], None]:
    """Look `prctl` up once in the parent, and return what a child calls to die with it (cause 4).

    The child is called ``name`` then (``ps -o comm``). Elsewhere than on Linux nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    written = name.encode()

    def become() -> None:
        prctl(PR_SET_NAME, written, 0, 0, 0)
        if prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "The parent-death signal was refused.")

    return become


class OneShotChild:
    """Takes one job, reports it, leaves. Made in the parent; `begin` is called in each child."""

    def __init__(self, app: Any, hostname: str) -> None:
        self._become = becoming("supervisor")
        self._hostname = hostname
        self._parent = os.getpid()
        self._getting_ready = _receivers(signals.worker_process_init)
        self._leaving = _receivers(signals.worker_process_shutdown)
        self._untraced = {
            name: task.run for name, task in app.tasks.items() if getattr(task, "untraced", False)
        }

    def begin(self, descriptors: Sequence[int], parents_end: int) -> NoReturn:
        """Be a child: with the ends of two pipes, and one that closes when it ends."""
        code = pool.EX_FAILURE
        try:
            self._become()
            billiard_common.clear_terminate_handler_fired()
            for number, way in WAYS:
                take_signal(number, way)
            if os.getppid() == self._parent:
                code = self._take_one_job(descriptors[0], descriptors[1], parents_end)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else code
        except (EOFError, OSError):
            pass  # the parent is gone, or ends its pool
        except Exception:
            logger.exception("A child ended with an error.")
        finally:
            try:
                self._tell(self._leaving, pid=os.getpid(), exitcode=code)
            finally:
                os._exit(code)

    def _take_one_job(self, jobs: int, results: int, parents_end: int) -> int:
        """Report for work, and only then get ready for it: nobody waits for that."""
        pid = os.getpid()
        _send(results, (WORKER_UP, (pid,)))
        self._tell(self._getting_ready)
        request = pickle.loads(_receive(jobs))  # noqa: S301 - written by our parent
        if request is None:
            return int(pool.EX_OK)
        _task, (job, index, function, args, kwargs) = request
        _send(results, (pool.ACK, (job, index, time.monotonic(), pid, None)))
        try:
            result: tuple[bool, Any] = (True, self._call(function, args, kwargs))
        except BaseException:
            if billiard_common.terminate_handler_fired():
                raise  # interrupted, and so lost: nothing is to be reported
            result = (False, ExceptionInfo())
        _send(results, (pool.READY, (job, index, result, parents_end)))
        # Not billiard's EX_RECYCLE: whoever does not leave with 0 is told as dead (`note_dead_child`).
        return int(pool.EX_OK)

    def _tell(self, receivers: list[Callable[..., object]], **facts: Any) -> None:
        """Call who listens to a signal. As with Celery, one that fails is told, and the others go on."""
        for receiver in receivers:
            try:
                receiver(sender=self._hostname, **facts)
            except Exception:
                logger.exception("%r has failed.", receiver)

    def _call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Do the job. Of an untraced task what its tracer would return: (failed, result, seconds)."""
        run = self._untraced.get(args[0]) if function in TRACERS else None
        if run is None:
            return function(*args, **kwargs)
        began = time.monotonic()
        body = args[3] if isinstance(args[3], str) else args[3].decode()
        positional, named, _embedded = scan_own(body, 0)[0]
        run(*positional, **named)
        return 0, None, time.monotonic() - began


def _receivers(signal_: Any) -> list[Callable[..., object]]:
    """Who is to be called at a signal of Celery's, found once for all children."""
    return list(signal_._live_receivers(None))


def _send(descriptor: int, message: object) -> None:
    """Write a message as the parent reads it."""
    said = pickle.dumps(message)
    unsent = memoryview(HEADER.pack(len(said)) + said)
    while unsent:
        unsent = unsent[os.write(descriptor, unsent) :]


def _receive(descriptor: int) -> bytes:
    """Read the next message.

    Raises:
        EOFError: there is none any more.
    """
    (size,) = HEADER.unpack(_read(descriptor, HEADER.size))
    return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        more = os.read(descriptor, size - len(heard))
        if not more:
            raise EOFError
        heard += more
    return heard
