"""Announces what this machine's supervisors have stored, over one warm connection instead of one a run.

They send datagrams to a socket that only the workers' account can reach; what has come in together is
announced together, of each task the newest number alone. A datagram that is lost, or forged, is a
doorbell that did not ring, or rang for nothing: listeners read the rows themselves.
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

GATHER_SECONDS = 0.01
"""For how long more is waited for: a small run tells three things in a moment, and the last will do."""

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
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)
        path.chmod(0o600)

    def run(self) -> None:
        """Announce what comes, and end when nothing more can."""
        while True:
            news: News = {}
            goes_on = self._take(self._socket.recv(LONGEST), news)
            until = time.monotonic() + GATHER_SECONDS
            while goes_on and len(news) < MOST_TOGETHER and self._hears_more(until):
                goes_on = self._take(self._socket.recv(LONGEST), news)
            if news:
                try:
                    announce_all(news)
                except Exception:
                    # Lost doorbells cost watchers their next poll; a thread that has died, every one.
                    logger.exception("announcements are lost")
            if not goes_on:
                return

    def stop(self) -> None:
        """Announce what has come, end, and remove the socket."""
        # Whoever sends from now on is told, and announces by itself. What is there is still read.
        self._socket.shutdown(socket.SHUT_RD)
        self.join()
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _hears_more(self, until: float) -> bool:
        return bool(self._poller.poll(max(0.0, until - time.monotonic()) * 1000))

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
