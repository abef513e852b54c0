"""A TCP proxy between the platform's processes and a server, which can be told to misbehave.

What it does is chosen for everybody or for one kind of client (``web``, ``dispatcher``, ``worker``,
…, see :func:`tests.chaos.owners.role_of`), so that a partition can be one-sided. It changes no byte:
it forwards, holds back, delays or cuts.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024
SLOW_SECONDS = 0.05
EVERYBODY = "*"

# PostgreSQL's message that says that a COMMIT was done: CommandComplete, length 11, the tag.
COMMIT_ANSWER = re.compile(re.escape(b"C\x00\x00\x00\x0bCOMMIT\x00"))
# A client's COMMIT in a simple query: by itself (the tag Q, length 11, the text), or among statements
# that are sent together (rest.statements).
COMMIT_ASKED = re.compile(rb"(?:Q\x00\x00\x00\x0b|;\n)COMMIT(?:;\n|\x00)")


class Way(Enum):
    """What happens to what a client and the server say to each other."""

    OPEN = "forwarded"
    CLOSED = "existing connections are cut, new ones at once"
    FROZEN = "held back in both directions, as by a server that is stopped"
    DEAF = "questions arrive, answers are held back"
    SLOW = f"each piece comes {SLOW_SECONDS} s late"


@dataclass(eq=False)
class _Link:
    """One client's connection and the one that was made for it."""

    find_role: Callable[[], str]
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None

    @cached_property
    def role(self) -> str:
        """Whose it is; found out only when a rule names a role, because looking is slow."""
        return self.find_role()

    def cut(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


@dataclass
class Proxy:
    """A proxy in a thread of its own; :attr:`port` is where to connect to. Use as a context."""

    upstream: int
    whose: Callable[[int, int], str] = lambda _client, _server: EVERYBODY
    port: int = 0
    links: set[_Link] = field(default_factory=set)
    _ways: dict[str, Way] = field(default_factory=dict)
    _commits: dict[re.Pattern[bytes], str] = field(default_factory=dict)
    #: How often an armed commit trap has sprung.
    sprung: int = 0

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_error: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, way: Way, role: str = EVERYBODY) -> None:
        """Choose what happens from now on, for everybody or for one role."""
        self._call(self._set(way, role))

    def open(self) -> None:
        """End all trouble: forward everything for everybody, what was held back first."""
        self._ways.clear()
        self._commits.clear()
        self._call(self._set(Way.OPEN, EVERYBODY))

    def cut(self, role: str = EVERYBODY) -> int:
        """Cut the existing connections once; new ones are served. Return how many there were."""
        return self._call(self._cut(role))

    def cut_after_commit(self, role: str = EVERYBODY) -> None:
        """Cut the next connection whose COMMIT the server has answered, before the client hears."""
        self._commits[COMMIT_ANSWER] = role

    def cut_before_commit(self, role: str = EVERYBODY) -> None:
        """Cut the next connection that asks for a COMMIT, before the server hears of it."""
        self._commits[COMMIT_ASKED] = role

    # -- in the proxy's thread ----------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _close(self) -> None:
        self._server.close()
        await self._cut(EVERYBODY)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _set(self, way: Way, role: str) -> None:
        self._ways[role] = way
        self._changed.set()
        self._changed = asyncio.Event()
        if way is Way.CLOSED:
            await self._cut(role)

    async def _cut(self, role: str) -> int:
        chosen = [link for link in self.links if self._concerns(role, link)]
        for link in chosen:
            link.cut()
        return len(chosen)

    def _concerns(self, role: str, link: _Link) -> bool:
        return role == EVERYBODY or role == link.role

    def _way(self, link: _Link) -> Way:
        for role, way in list(self._ways.items()):
            if role != EVERYBODY and role == link.role:
                return way
        return self._ways.get(EVERYBODY, Way.OPEN)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = [writer.get_extra_info(name)[1] for name in ("peername", "sockname")]
        link = _Link(partial(self.whose, *ports), writer)
        self.links.add(link)
        try:
            await self._permission(link, answers=False)
            from_server, link.server = await asyncio.open_connection("127.0.0.1", self.upstream)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, reader, link.server, answers=False))
                pumps.create_task(self._pump(link, from_server, writer, answers=True))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        except* asyncio.CancelledError:
            pass  # the proxy is being closed
        finally:
            self.links.discard(link)
            link.cut()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._trapped(link, chunk):
                link.cut()
                return
            await self._permission(link, answers=answers)
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
        if answers:
            raise ConnectionResetError("the server has closed")

    def _trapped(self, link: _Link, chunk: bytes) -> bool:
        for text, role in list(self._commits.items()):
            if text.search(chunk) and self._concerns(role, link):
                del self._commits[text]
                self.sprung += 1
                return True
        return False

    async def _permission(self, link: _Link, *, answers: bool) -> None:
        """Return when a piece may be passed on.

        Raises:
            ConnectionResetError: it never may.
        """
        while True:
            way = self._way(link)
            if way is Way.CLOSED:
                raise ConnectionResetError("closed")
            if way is Way.FROZEN or (way is Way.DEAF and answers):
                await self._changed.wait()
                continue
            if way is Way.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            return
