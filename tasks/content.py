"""The bytes of files: in and out of the storage ``files``, under names made of UUIDs alone.

Nothing here is held in memory: a source is read piece by piece, counted, hashed and capped.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from django.core.files.storage import Storage, storages

CHUNK = 256 * 1024
"""Bytes that are read at once."""

Read = Callable[[int], bytes]
"""Gives at most so many bytes; none at the end."""


class TooMuch(Exception):
    """A source gave more bytes than it may."""


class Incoming:
    """A source on its way into storage; what of Django's ``File`` storages use, and no more.

    ``size`` and ``sha256`` are those of what has been read. Reading raises :class:`TooMuch` beyond
    ``cap`` bytes, and whatever the source raises; then the storage has no complete file.
    """

    def __init__(self, read: Read, cap: int) -> None:
        self._read = read
        self._cap = cap
        self._hash = hashlib.sha256()
        self.size = 0
        self.name = ""

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, in hexadecimal digits."""
        return self._hash.hexdigest()

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next bytes, at most ``size``; a bucket's storage reads by this."""
        piece = self._read(CHUNK if size < 0 else size)
        self.size += len(piece)
        if self.size > self._cap:
            raise TooMuch
        self._hash.update(piece)
        return piece

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield all bytes; a folder's storage reads by this."""
        while piece := self.read(chunk_size or CHUNK):
            yield piece

    def seekable(self) -> bool:
        """A source comes once."""
        return False


def new_key() -> str:
    """Return a name in storage: random, so that the folders by its first digits fill evenly."""
    name = uuid.uuid4().hex
    return f"{name[:2]}/{name}"


def write(key: str, incoming: Incoming) -> None:
    """Store a source under a name that :func:`new_key` gave."""
    _files().save(key, cast(Any, incoming))


def open_content(key: str) -> IO[bytes]:
    """Open stored bytes for reading.

    Raises:
        FileNotFoundError: the storage does not have them.
    """
    return cast("IO[bytes]", _files().open(key, "rb"))


def remove(key: str) -> None:
    """Remove stored bytes; what is not there is fine."""
    _files().delete(key)


def _files() -> Storage:
    return storages["files"]
