"""What runs have left: the list, and the bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from switchyard.client.errors import UnexpectedAnswer
from switchyard.client.models import Artifact, Task
from switchyard.client.pages import results
from switchyard.client.transport import Transport

OnBytes = Callable[[int], None]
"""Told, after each piece, how many bytes of the file have been sent or received."""


class Artifacts:
    """The files that a task's runs have left; `path` gives the address of a task's."""

    def __init__(self, transport: Transport, path: Callable[[Task | str], str]) -> None:
        self._transport = transport
        self._path = path

    def list(self, task: Task | str) -> Iterator[Artifact]:
        """Yield the artifacts of all runs of a task, newest first."""
        found = results(self._transport, self._path(task), long=True)
        return (Artifact.of(entry) for entry in found)

    def save(
        self,
        task: Task | str,
        artifact: Artifact,
        target: Path,
        *,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write an artifact to the file `target`, whole or not at all; an existing one is replaced.

        Its name is the server's data: whoever makes `target` of it decides what it may be.

        Raises:
            NotFound: it is not there (any more).
            UnexpectedAnswer: what came is not what the list promised.
            OSError: it cannot be written.
        """
        part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        digest, size = hashlib.sha256(), 0
        try:
            with (
                self._transport.download(f"{self._path(task)}/{quote(artifact.id, safe='')}") as pieces,
                part.open("xb") as stream,
            ):
                for piece in pieces:
                    stream.write(piece)
                    digest.update(piece)
                    size += len(piece)
                    if on_bytes is not None:
                        on_bytes(size)
            if artifact.sha256 and digest.hexdigest() != artifact.sha256:
                raise UnexpectedAnswer(f"The artifact {artifact.name!r} arrived damaged; try again.")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
