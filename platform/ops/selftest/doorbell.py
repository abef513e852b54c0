"""Taking one canary's message out of the broker, as a flush or a crash of the broker would.

Messages lie in the broker for milliseconds only, because free workers wait for them. So we wait for
them, too: Redis serves whoever has waited longest, and workers ask anew every second. A message that
is somebody else's is put back where it was, for the next worker that asks.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

import redis

SOCKET_SECONDS = 5.0


class Doorbell:
    """The broker of a deployment, by its URL (``redis://``, ``rediss://`` or ``unix://``)."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")

    @property
    def can_be_heard(self) -> bool:
        """Whether this broker lets us take a message (RabbitMQ's queues are left alone)."""
        return urlsplit(self._url).scheme in ("redis", "rediss", "unix")

    def lose(self, queue: str, wanted: threading.Event, ids: set[str], *, seconds: float) -> bool:
        """Take messages of ``queue`` until one names a task in ``ids``; False when none came in time.

        ``wanted`` is set once we wait: what is submitted from then on may be ours. ``ids`` may grow
        meanwhile.
        """
        deadline = time.monotonic() + seconds
        with redis.Redis.from_url(self._url, socket_timeout=SOCKET_SECONDS) as broker:
            wanted.set()
            while time.monotonic() < deadline:
                taken = broker.brpop([queue], timeout=1)
                if not isinstance(taken, (list, tuple)):
                    continue
                message = bytes(taken[1])
                if any(each.encode() in message for each in ids):
                    return True
                broker.rpush(queue, message)
                # Let a worker have it before we ask again.
                time.sleep(0.05)
        return False
