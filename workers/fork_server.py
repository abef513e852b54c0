"""The fork server of a pool's worker: a copy of its main process that does nothing but fork.

A fork shares all memory, and each page that either side writes next is copied for it. The main process
is busy: for each run it wrote, and so copied, 900 of the pages that it shared with the last child. This
process writes few, and always the same ones.

It makes siblings (CLONE_PARENT): each child is one of the main process's own, which reaps it, signals it
and takes it along when it dies. So nothing depends on this process; when it has ended, the main process
forks by itself, and starts another one.

Neither Python nor the C library offers that flag in a fork, so it is a bare one (`kernel.bare_fork`).
What a child would miss of theirs are random numbers (`RENEWED`). Two tests look that it is no more: at
what a worker's modules register with `os.register_at_fork`, and for libraries with handlers of
``pthread_atfork``. (OpenSSL 3 sees by the process id that it must not go on with its parent's random
numbers.)
"""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
from _signal import SIG_DFL, SIGCHLD  # type: ignore[import-not-found]
from _signal import signal as take_signal
from array import array
from collections.abc import Callable, Sequence
from typing import NoReturn

import uuid_utils
from celery.utils.log import get_logger

from workers.sandbox.inside import kernel

__all__ = ("ForkServer",)

logger = get_logger(__name__)

#: What a child would otherwise have in common with its siblings.
RENEWED: tuple[Callable[[], object], ...] = (random.seed, uuid_utils.reseed_rng)

#: Seconds in which a fork is answered, or the server is given up.
ANSWER_SECONDS = 5.0

#: The main process decides when this one ends; a signal to their whole group means the main process.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

#: Room for the descriptors of one request, and for its number.
DESCRIPTOR_ROOM = socket.CMSG_SPACE(8 * array("i").itemsize)
REQUEST_BYTES = 32


class ForkServer:
    """The main process's side.

    ``begin`` is called in each child, with its descriptors and a number; ``prepare`` in the process that
    is to fork, before its first fork and whenever a child of its own has ended; ``become`` once, in the
    server, which is to die with its parent.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[int], int], NoReturn],
        prepare: Callable[[], object],
        become: Callable[[], object],
    ) -> None:
        self._begin = begin
        self._prepare = prepare
        self._become = become
        self._clone = kernel.bare_fork(kernel.CLONE_PARENT)
        self._requests: socket.socket | None = None
        self.pid = 0

    def start(self) -> None:
        """Fork the server, where it can work."""
        if self._clone is None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                ours.close()
                self._serve(theirs, self._clone)
                code = 0
            except Exception:
                logger.exception("The fork server ended with an error.")
            finally:
                os._exit(code)
        theirs.close()
        self._requests = ours

    def fork(self, descriptors: Sequence[int], number: int) -> int:
        """Fork a child of the calling process that has these descriptors; return its pid.

        Raises OSError, as `os.fork` does.
        """
        pid = self._ask(descriptors, number)
        if pid is None:
            self._prepare()
            pid = os.fork()
            if pid == 0:
                self._begin_child(descriptors, number)
        return pid

    def close(self) -> None:
        """End the server and bury it."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def _ask(self, descriptors: Sequence[int], number: int) -> int | None:
        """Have the server fork; None where there is none, or none any more."""
        if self._requests is None:
            return None
        born, birth = os.pipe()
        try:
            answer = self._answer(self._requests, [*descriptors, birth], number)
            os.close(birth)
            if not answer:
                logger.error("The fork server has ended or is silent; another one is started.")
                self.close()
                _end_unknown(born)
                self.start()
                return None
        finally:
            os.close(born)
        pid = int(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _answer(self, requests: socket.socket, descriptors: list[int], number: int) -> bytes:
        """Return what the server says, or nothing if it does not within its time."""
        try:
            socket.send_fds(requests, [b"%d" % number], descriptors)
            poller = select.poll()
            poller.register(requests, select.POLLIN)
            return requests.recv(REQUEST_BYTES) if poller.poll(ANSWER_SECONDS * 1000) else b""
        except OSError as error:
            logger.warning("The fork server cannot be asked: %s.", error)
            return b""

    # -- in the server, and in what it forks ------------------------------------------------------

    def _serve(self, requests: socket.socket, clone: Callable[[], int]) -> None:
        """Fork for each request, until the main process is gone.

        What is written here is copied once more for each fork, so it is as little as can be.
        """
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self._become()
        ours = requests.fileno()
        # Children of its own are those that `prepare` has started.
        ended = [True]
        signal.signal(signal.SIGCHLD, lambda _number, _frame: ended.append(True))
        while True:
            request, received, _flags, _from = requests.recvmsg(
                REQUEST_BYTES, DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC
            )
            if not request:
                return
            if ended:
                ended.clear()
                self._prepare()
            descriptors = array("i", received[0][2])
            try:
                pid = clone()
            except OSError as error:
                pid = -(error.errno or errno.EAGAIN)
            if pid == 0:
                for renew in RENEWED:
                    renew()
                birth = descriptors.pop()
                try:  # noqa: SIM105 - each function called is pages copied
                    os.write(birth, b"%d" % os.getpid())
                except BrokenPipeError:  # it is known already
                    pass
                os.close(birth)
                take_signal(SIGCHLD, SIG_DFL)
                os.close(ours)
                self._begin_child(descriptors, int(request))
            for each in descriptors:
                os.close(each)
            requests.send(b"%d" % pid)

    def _begin_child(self, descriptors: Sequence[int], number: int) -> NoReturn:
        try:
            self._begin(descriptors, number)
        finally:
            os._exit(1)


def _end_unknown(born: int) -> None:
    """End the child that a server had forked before it ended, if it had: nobody was told of it.

    It holds the same descriptors as the one that is forked in its place, and would take its job.
    """
    told = os.read(born, REQUEST_BYTES)
    if told:
        os.kill(int(told), signal.SIGKILL)
        os.waitpid(int(told), 0)
