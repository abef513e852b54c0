"""Announces what this machine's supervisors have stored, over one warm connection instead of one a run.

They send datagrams to a socket that only the workers' account can reach. The first after a pause is
announced at once; what comes within :data:`REST_SECONDS` of an announcement is announced together, of
each task the newest number alone. A datagram that is lost, or forged, is a doorbell that did not ring,
or rang for nothing: listeners read the rows themselves.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
import uuid
from pathlib import Path

from tasks.announce import announce_all

logger = logging.getLogger(__name__)

REST_SECONDS = 0.03
"""Most announcements of short runs are saved by it, and no reader notices the delay."""

MOST_TOGETHER = 200
LONGEST = 128
"""Bytes of a datagram: a task's id, a tenant's, an event's number."""

News = dict[tuple[uuid.UUID, int], int]


class Announcing(threading.Thread):
    """Listens on ``path`` until :meth:`stop`."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="announcing", daemon=True)
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o600)

    def run(self) -> None:
        """Announce what comes, and end when nothing more can."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        goes_on, rests_until = True, 0.0
        while goes_on:
            news: News = {}
            goes_on = self._take(self._socket.recv(LONGEST), news)
            while goes_on and len(news) < MOST_TOGETHER:
                # Read all the time: the kernel keeps few datagrams, and who finds no room for his
                # announces by himself.
                if not poller.poll(1000 * max(0.0, rests_until - time.monotonic())):
                    break
                goes_on = self._take(self._socket.recv(LONGEST), news)
            if news:
                announce_all(news)
                rests_until = time.monotonic() + REST_SECONDS

    def stop(self) -> None:
        """Announce what has come, end, and remove the socket."""
        # Whoever sends from now on is told, and announces by itself. What is there is still read.
        self._socket.shutdown(socket.SHUT_RD)
        self.join()
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _take(self, told: bytes, news: News) -> bool:
        """Add what a datagram tells; return False if there is none and none can come."""
        if not told:
            return False
        try:
            task, tenant, seq = told.decode().split()
            key = (uuid.UUID(task), int(tenant))
            news[key] = max(int(seq), news.get(key, 0))
        except ValueError:
            logger.warning("what came to be announced is no announcement")
        return True
