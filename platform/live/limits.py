"""Every limit of live connections in one place. Durations in seconds."""

from __future__ import annotations

CONNECTIONS_PER_CREDENTIAL = 500
"""Sockets, streams and waits that one token or user may hold open in one web process."""

MESSAGES_PER_SECOND = 30
"""What a client may say; it has next to nothing to say."""

BAD_FRAMES = 3
"""Frames that cannot be read before the connection is closed."""

FRAME_BYTES = 64 * 1024
"""The largest frame taken from a client; the web server's ``ws_max_size`` says the same."""

STALLED_AFTER = 30.0
"""A client that reads nothing for this long while there is something to read is closed."""

RIGHTS_EVERY = 15.0
"""How old the last look at a credential may be when an event is sent."""

PAGE = 100
"""Events read at once: with chunks of at most 64 KiB the most that one connection can hold."""

BETWEEN_READS = 0.1
"""A busy task rings more often than anybody can watch: rings closer than this are read together."""

POLL = 5.0
"""How often to look without a ring: an announcement may be lost."""

POLL_WITHOUT_REDIS = 1.0
"""The same while no announcement can arrive."""

HEARTBEAT = 15.0
"""Event streams say something this often, so that no proxy takes them for dead."""

TICKET_LIFE = 30
"""How long a socket's one-time ticket may be used."""
