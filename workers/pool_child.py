"""The child's side of the worker pool: one job, on the wire as Celery's own children speak.

Unlike a stock child it announces no DEATH and does not sleep until the parent answers with a SIGTERM.
That saves a round trip through a busy event loop; a handler for SIGTERM that somebody left behind no
longer costs a second per task; and the parent never signals a process id that may already belong to
somebody else. Nor does it wait until its result is read: the parent reads what a dead child has left.

It is forked from a process that has loaded, set up and built all it needs, so it does nothing of that
again, and does not run what modules have registered for billiard's forks.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from billiard import common, pool
from billiard.connection import Connection
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency import asynpool, prefork
from celery.utils.log import get_logger

__all__ = ("OneShotChild", "becoming")

logger = get_logger(__name__)

# The stubs know neither.
billiard_common: Any = common
WORKER_UP: int = cast(Any, asynpool).WORKER_UP

#: linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

RESET_SIGNALS = tuple(signal.Signals[name].value for name in cast(Any, prefork).WORKER_SIGRESET)
IGNORED_SIGNALS = tuple(signal.Signals[name].value for name in cast(Any, prefork).WORKER_SIGIGNORE)


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

    def __init__(self, hostname: str) -> None:
        self._become = becoming("supervisor")
        self._hostname = hostname
        self._parent = os.getpid()

    def begin(self, descriptors: Sequence[int], parents_end: int) -> NoReturn:
        """Be a child: with the ends of two pipes, and one that closes when it ends."""
        code = pool.EX_FAILURE
        try:
            self._take_signals()
            if os.getppid() == self._parent:
                jobs = Connection(descriptors[0], writable=False)
                results = Connection(descriptors[1], readable=False)
                code = self._take_one_job(jobs, results, parents_end)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else code
        except (EOFError, OSError):
            pass  # the parent is gone, or ends its pool
        except Exception:
            logger.exception("A child ended with an error.")
        finally:
            try:
                signals.worker_process_shutdown.send(
                    sender=self._hostname, pid=os.getpid(), exitcode=code
                )
            finally:
                os._exit(code)

    def _take_signals(self) -> None:
        """Die with the parent, and take signals as Celery's children do (cause 9)."""
        self._become()
        billiard_common.clear_terminate_handler_fired()
        for number in RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        billiard_common.reset_signals()
        signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)

    def _take_one_job(self, jobs: Connection, results: Connection, parents_end: int) -> int:
        """Report for work, and only then let `worker_process_init` prepare: nobody waits for that."""
        pid = os.getpid()
        results.send((WORKER_UP, (pid,)))
        signals.worker_process_init.send(sender=self._hostname)
        request = pickle.loads(jobs.recv_bytes())  # noqa: S301 - written by our parent
        if request is None:
            return int(pool.EX_OK)
        _task, (job, index, function, args, kwargs) = request
        results.send((pool.ACK, (job, index, time.monotonic(), pid, None)))
        try:
            result: tuple[bool, Any] = (True, function(*args, **kwargs))
        except BaseException:
            if billiard_common.terminate_handler_fired():
                raise  # interrupted, and so lost: nothing is to be reported
            result = (False, ExceptionInfo())
        results.send((pool.READY, (job, index, result, parents_end)))
        # Not billiard's EX_RECYCLE: whoever does not leave with 0 is told as dead (`note_dead_child`).
        return int(pool.EX_OK)
