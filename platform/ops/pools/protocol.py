"""What of PostgreSQL's protocol (version 3) the pooler and its clients speak themselves.

"Frontend/Backend Protocol" in PostgreSQL's manual; the rest passes through unread.
"""

from __future__ import annotations

import struct

import psycopg

from rest.patience import PREPARED

PROTOCOL_3 = 196608

REPORTED = (
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
)


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message as it goes over the wire."""
    return kind + struct.pack("!I", len(body) + 4) + body


READY = message(b"Z", b"I")
"""ReadyForQuery, in no transaction: the last message of a greeting."""

KEY_BYTES = len(message(b"K", bytes(8)))
"""BackendKeyData comes before it."""


def hello(user: bytes, password: bytes) -> bytes:
    """Return the startup message and the password's, which the pooler takes together."""
    startup = struct.pack("!I", PROTOCOL_3) + b"user\0" + user + b"\0\0"
    return struct.pack("!I", len(startup) + 4) + startup + message(b"p", password + b"\0")


def greeting(pgconn: psycopg.pq.abc.PGconn, prepared: bytes) -> bytes:
    """Return what a client hears that is let in: what this session is like, and that it is ready."""
    told = {name.encode(): pgconn.parameter_status(name.encode()) for name in REPORTED}
    told[PREPARED] = prepared or None
    return b"".join(
        (
            message(b"R", struct.pack("!I", 0)),
            *(message(b"S", b"%s\0%s\0" % each) for each in told.items() if each[1] is not None),
            message(b"K", struct.pack("!II", pgconn.backend_pid, 0)),
            READY,
        )
    )


class Frames:
    """Follows a stream of messages (a type byte, a length, a body) and gives each one's type.

    Bodies are skipped but for their first byte, which for ReadyForQuery is the session's state.
    """

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def whole(self) -> bool:
        """Whether the stream stands between two messages."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> list[tuple[int, int, int]]:
        """Return (type, first byte of the body or 0, offset in ``data`` where it began) of each.

        A message counts as soon as its type, length and first byte are there.
        """
        seen = []
        at = 0
        while at < len(data):
            if self._left:
                skipped = min(self._left, len(data) - at)
                self._left -= skipped
                at += skipped
                continue
            began = at - len(self._head)
            head = self._head + data[at : at + 6 - len(self._head)]
            length = int.from_bytes(head[1:5], "big") if len(head) >= 5 else -1
            if length < 0 or (length > 4 and len(head) < 6):
                self._head = head
                break
            seen.append((head[0], head[5] if length > 4 else 0, began))
            self._head = b""
            # One type byte and `length` more, of which the head has taken up to five.
            end = began + 1 + length
            self._left = max(0, end - len(data))
            at = min(end, len(data))
        return seen
