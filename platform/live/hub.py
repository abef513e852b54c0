"""One doorbell per process: it hears the announcements of ``tasks.announce`` and wakes who waits.

Why not each consumer's own channel layer subscription: that connects to Redis while a socket is
being opened, so a frozen Redis would freeze sockets. Here nobody ever waits for Redis. One task
holds one subscription connection for all groups that are watched; when Redis is away it tries
again once a second, and watchers go on by polling, because a ring only says "read again".

A group's watchers are also rung when its subscription begins (what was announced before cannot have
been heard) and when the connection is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from channels_redis.serializers import registry
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from live import limits
from tasks.announce import channel_of

CONNECT_SECONDS = 2.0
PING_EVERY = 1.0
SILENT_AFTER = 3.0
RETRY_EVERY = 1.0
KNOWN_TYPES = frozenset({"task.event"})
HEARD_AT_MOST = 1000

log = structlog.get_logger(__name__)


class Bell:
    """What one watcher waits on."""

    def __init__(self, hub: Hub, group: _Group) -> None:
        self._hub = hub
        self._group = group
        self._rung = asyncio.Event()
        self._taken_at = 0.0
        self._heard: set[str] = set()

    @property
    def rings(self) -> int:
        """Return a number that every ring of the group changes, the same for all its watchers."""
        return self._group.rings

    def ring(self, task: str | None = None) -> None:
        """Wake the watcher."""
        if task is not None and len(self._heard) < HEARD_AT_MOST:
            self._heard.add(task)
        self._rung.set()

    def take(self) -> set[str]:
        """Return the tasks that rang since the last call, and forget those rings.

        To be called before reading, so that a ring meanwhile is not lost.
        """
        self._rung.clear()
        self._taken_at = time.monotonic()
        heard, self._heard = self._heard, set()
        return heard

    async def wait(self) -> None:
        """Return after a ring, or when it is time to look without one.

        Never sooner than ``limits.BETWEEN_READS`` after :meth:`take`, so that rings which follow
        each other closely are answered by one reading.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._hub.patience):
                await self._rung.wait()
        await asyncio.sleep(max(0.0, self._taken_at + limits.BETWEEN_READS - time.monotonic()))


class _Group:
    """The watchers of one group, and the number of its last ring among all of the hub's."""

    def __init__(self, rings: int) -> None:
        self.bells: set[Bell] = set()
        self.rings = rings

    def ring(self, rings: int, task: str | None) -> None:
        self.rings = rings
        for bell in self.bells:
            bell.ring(task)


class Hub:
    """The subscriptions of one event loop."""

    def __init__(self, url: str, prefix: str, keys: list[str]) -> None:
        self._url = url
        self._prefix = channel_of(prefix, "")
        self._serializer = registry.get_serializer("msgpack", symmetric_encryption_keys=keys)
        self._groups: dict[str, _Group] = {}
        self._rings = itertools.count()
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self.connected = False

    @property
    def patience(self) -> float:
        """Seconds that a watcher waits at most before it looks by itself."""
        return limits.POLL if self.connected else limits.POLL_WITHOUT_REDIS

    @contextmanager
    def watch(self, group: str) -> Iterator[Bell]:
        """Hear a group's rings while the context lasts; returns at once, whatever Redis does."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen_for_ever())
        watched = self._groups.get(group)
        if watched is None:
            watched = self._groups[group] = _Group(next(self._rings))
            self._changed.set()
        bell = Bell(self, watched)
        watched.bells.add(bell)
        try:
            yield bell
        finally:
            watched.bells.discard(bell)
            if not watched.bells:
                del self._groups[group]
                self._changed.set()

    def ring_all(self) -> None:
        """Wake every watcher: something may have been missed, or the process is about to end."""
        for group in self._groups.values():
            group.ring(next(self._rings), None)

    def receive(self, channel: str, data: bytes) -> None:
        """Take one message of the channel layer; what is not ours is logged and ignored."""
        try:
            message = self._serializer.deserialize(data)
            known = message["type"] in KNOWN_TYPES
            task = str(message["task"]) if known else None
        except Exception as error:
            # Whatever somebody may have put into Redis must not end the listening.
            log.warning("announcement_unreadable", channel=channel, error=type(error).__name__)
            return
        if task is None:
            log.warning("announcement_unknown", channel=channel, type=str(message["type"])[:50])
            return
        self._ring(channel, task)

    def _ring(self, channel: str, task: str | None = None) -> None:
        group = self._groups.get(channel.removeprefix(self._prefix))
        if group is not None:
            group.ring(next(self._rings), task)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with _Subscription(self._url) as subscription:
                    self._heard_at = time.monotonic()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._subscribe(subscription))
                        group.create_task(self._hear(subscription))
                        group.create_task(self._check(subscription))
            except* (RedisError, OSError, TimeoutError) as errors:
                if self.connected:
                    log.warning("announcements_away", error=str(errors.exceptions[0]))
            self.connected = False
            self.ring_all()
            await asyncio.sleep(RETRY_EVERY)

    async def _subscribe(self, subscription: _Subscription) -> None:
        """Keep what Redis sends equal to what is watched."""
        # Always one more than is watched: on a connection that subscribes to nothing a ping would
        # be answered in another form.
        pulse = f"{self._prefix}pulse"
        held: set[str] = set()
        while True:
            self._changed.clear()
            wanted = {pulse, *(self._prefix + group for group in self._groups)}
            if wanted - held:
                await subscription.pubsub.subscribe(*(wanted - held))
            if held - wanted:
                await subscription.pubsub.unsubscribe(*(held - wanted))
            held = wanted
            await self._changed.wait()

    async def _hear(self, subscription: _Subscription) -> None:
        while True:
            message = await subscription.next()
            self._heard_at = time.monotonic()
            if not self.connected:
                self.connected = True
                log.info("announcements_heard")
            if message["type"] == "message":
                self.receive(message["channel"].decode(), message["data"])
            elif message["type"] == "subscribe":
                self._ring(message["channel"].decode())

    async def _check(self, subscription: _Subscription) -> None:
        """Notice a Redis that is frozen or cut off, which would look like silence."""
        while True:
            await asyncio.sleep(PING_EVERY)
            await subscription.pubsub.ping()
            if time.monotonic() - self._heard_at > SILENT_AFTER:
                raise TimeoutError("Redis does not answer")


class _Subscription:
    """One connection to Redis that only subscribes; errors are raised, never retried inside."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self.pubsub: Any = self._redis.pubsub()

    async def __aenter__(self) -> _Subscription:
        await self.pubsub.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            await asyncio.wait_for(self._close(), CONNECT_SECONDS)

    async def _close(self) -> None:
        await self.pubsub.aclose()
        await self._redis.aclose()

    async def next(self) -> dict[str, Any]:
        """Return the next message of any kind."""
        while True:
            message: dict[str, Any] | None = await self.pubsub.get_message(timeout=None)
            if message is not None:
                return message


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the running event loop's hub."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        layer: dict[str, Any] = dict(settings.CHANNEL_LAYERS["default"])
        config = layer["CONFIG"]
        _hubs[loop] = Hub(config["hosts"][0], config["prefix"], config["symmetric_encryption_keys"])
    return _hubs[loop]
