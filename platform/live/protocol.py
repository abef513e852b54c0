"""uvicorn's WebSocket protocol with endings that reach the client.

Three repairs, each of something that uvicorn 0.54 gives no setting for. Private interfaces: the
version is pinned, and tests/live/test_frames.py and test_slow_readers.py fail when they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

LINGER_SECONDS = 3.0


class SocketProtocol(WebSocketsSansIOProtocol):
    """Given to the web server as ``ws``."""

    async def send(self, message: ASGISendEvent) -> None:
        """Let a close frame go behind what a stalled client has not taken yet.

        Otherwise it waits for a client that may never read, and holds the connection for as long.
        """
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing and self.close_timer is not None:
            self.close_timer.cancel()
            # Not `close`, which would wait for the stalled client once more.
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Close because of a frame that is not taken, and go on discarding for a moment.

        Closing with unread bytes makes the kernel send a reset, which can destroy the close frame
        with its code (1009) before the client has read it.
        """
        if self.close_sent:
            return  # once more for each piece of what is being discarded
        assert self.conn.close_sent is not None  # noqa: S101 - for the type alone
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
