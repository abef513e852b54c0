"""What guards a handler from inside: reaps, passes signals on, reports the end, takes the tree with it.

It is pid 1 of a `full` sandbox, and the keeper of a handler that a server has forked (`server`).

Orders come on the status socket, one byte each: T (SIGTERM to the handler's process group),
K (kill everything). Its end of file means that the supervisor is gone, which is the same as K.
Signals from inside cannot hurt a pid 1: the kernel drops them, and Landlock refuses them. A keeper that
is killed takes its handler along.
"""

from __future__ import annotations

import os
import resource
import select
import sys
from _signal import SIG_SETMASK, SIGCHLD, SIGKILL, SIGTERM, pthread_sigmask, set_wakeup_fd, signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def kill_everybody() -> None:
    """SIGKILL all others of a pid namespace."""
    try:
        os.kill(-1, SIGKILL)
    except ProcessLookupError:
        return


def serve(handler: int, status: int, kill_all: Callable[[], object] = kill_everybody) -> NoReturn:
    """Guard the handler (a child of ours) until it ends, then end all others and report.

    ``kill_all`` ends all that came from the run.
    """
    for descriptor in (0, 1, 2, 3, 4):  # whoever reads there must see the end when the handler's is
        os.close(descriptor)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal(SIGCHLD, lambda _number, _frame: None)
    set_wakeup_fd(wake, warn_on_full_buffer=False)
    pthread_sigmask(SIG_SETMASK, ())
    poller = select.poll()
    poller.register(status, select.POLLIN)
    poller.register(woken, select.POLLIN)
    end = _reap(handler)
    while end is None:
        for descriptor, _event in poller.poll():
            if descriptor == woken:
                os.read(woken, 512)
                end = _reap(handler)
            else:
                _obey(os.read(status, 1), handler, kill_all)
    _report(end, status, kill_all)


def _obey(order: bytes, handler: int, kill_all: Callable[[], object]) -> None:
    if order != b"T":
        kill_all()
        return
    try:
        os.killpg(handler, SIGTERM)
    except ProcessLookupError:  # not yet a group of its own: its mask keeps the signal
        os.kill(handler, SIGTERM)


def _reap(handler: int) -> int | None:
    """Bury dead children, until there are no more or one is the handler; then return its wait status."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        if pid == handler:
            return status


def _report(end: int, status: int, kill_all: Callable[[], object]) -> NoReturn:
    """Kill and bury what is left, so that its time is counted too, and tell the supervisor."""
    try:
        # All that is left is a child of ours, or comes from one.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        kill_all()
        while True:
            os.wait()
    except ChildProcessError:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    try:
        os.write(status, f"X{end} {cpu:.3f} {used.ru_maxrss}".encode())
    finally:
        os._exit(0)


def hand_out_listener(channel: int, port: int) -> None:
    """Listen on 127.0.0.1 in this net namespace and give the socket away.

    A socket belongs to the namespace it was made in, whoever holds it: the supervisor accepts here
    and connects outside, so no byte passes through this process.
    """
    import _socket

    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    out = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, channel)
    handle = listener.fileno().to_bytes(4, sys.byteorder)
    out.sendmsg([b"L"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handle)])
    out.close()
    listener.close()
