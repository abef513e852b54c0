"""One WebSocket from its opening to its close: what it hears is limited, what it says is not piled up.

The application side is plain ASGI. Channels' consumers would subscribe each socket to Redis before
it is opened; see :mod:`live.hub` for why ours must not.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from live import codes, limits
from live.codes import Gone, Goodbye
from live.frames import BadFrame, answer, error_frame, write

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A client that has stalled gets this long to take its close frame before it is forgotten.
LAST_WORD_SECONDS = 5.0


class Connection:
    """A socket that has been asked for; :meth:`accept` or :meth:`refuse` comes first."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._turn = asyncio.Lock()
        self._heard: deque[float] = deque(maxlen=limits.MESSAGES_PER_SECOND)
        self._bad = 0

    async def accept(self, subprotocol: str | None) -> None:
        """Open the socket."""
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    async def refuse(self) -> None:
        """Answer the opening with 403."""
        await self._receive()
        await self._send({"type": "websocket.close"})

    async def say(self, frame: dict[str, Any]) -> None:
        """Send one frame; returns when the web server has taken it, which a slow reader delays.

        Raises:
            Goodbye: the client has read nothing for too long.
            Gone
        """
        try:
            async with asyncio.timeout(limits.STALLED_AFTER), self._turn:
                await self._send({"type": "websocket.send", "text": write(frame)})
        except TimeoutError:
            raise Goodbye(codes.READS_NOTHING, "You read nothing; reconnect with after.") from None
        except OSError:  # what ASGI servers raise when the client has left
            raise Gone from None

    async def close(self, goodbye: Goodbye) -> None:
        """Close with a code and a sentence."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._send(
                    {"type": "websocket.close", "code": goodbye.code, "reason": goodbye.reason}
                )

    async def converse(self, speech: Coroutine[Any, Any, None]) -> bool:
        """Speak, and listen meanwhile; return whether the speech came to its end.

        False means that the client has gone.

        Raises:
            Goodbye: the speech or the client's behaviour ends the connection.
            Gone
        """
        speaking = asyncio.create_task(speech)
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait({speaking, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, listening):
                task.cancel()
            await asyncio.wait({speaking, listening})
        for task in (listening, speaking):
            if not task.cancelled():
                task.result()
        return not speaking.cancelled()

    async def _listen(self) -> None:
        """Take what the client sends until it has gone."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            self._count()
            text = message.get("text")
            if text is None:
                raise Goodbye(codes.BINARY, "Send text frames; binary ones are not taken.")
            if len(text) > limits.FRAME_BYTES or len(text.encode()) > limits.FRAME_BYTES:
                raise Goodbye(codes.TOO_BIG, "A frame may have at most 64 KiB.")
            await self.say(self._answer(text))

    def _count(self) -> None:
        now = time.monotonic()
        full = len(self._heard) == limits.MESSAGES_PER_SECOND
        if full and now - self._heard[0] < 1:
            raise Goodbye(codes.TOO_MANY, "You send too many messages.")
        self._heard.append(now)

    def _answer(self, text: str) -> dict[str, Any]:
        try:
            return answer(text)
        except BadFrame as bad:
            self._bad += 1
            if bad.fatal or self._bad >= limits.BAD_FRAMES:
                raise Goodbye(codes.BAD, bad.detail) from None
            return error_frame(bad.code, bad.detail)
