"""Files of one run: inputs into its workspace before the handler, artifacts out of it after.

The handler chose the names and contents of what it leaves, so files are opened as the handler's own
user and without following any link, and only regular ones (``open_inside``). Bytes are streamed;
while they are, the claim is kept alive here, because no handler is being watched.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TypeVar

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from tasks import fault_points
from tasks.content import CHUNK, Read, TooMuch, open_content
from tasks.errors import Fenced, UploadExpired
from tasks.models import TaskFile
from tasks.selectors.files import inputs_of
from tasks.services.append import append, storable_text
from tasks.services.claim import Claimed, renew
from tasks.services.files import Artifact, artifacts_record, discard, fill, reserve
from workers.sandbox import HandlerIdentity, WorkspaceError, open_inside, work_folder
from workers.sandbox.artifacts import matching
from workers.sandbox.identity import acting_as
from workers.supervisor.output import Output
from workers.supervisor.verdict import SHELL

T = TypeVar("T")

INPUTS = "inputs"
"""The folder of the workspace that inputs are put into."""

NAME_CAP = 500
TOLD = 20
"""Files that are left out are told one by one up to this many, then as a number."""

RETRY_SECONDS = 0.2
ANY_BYTES = "application/octet-stream"

log = structlog.get_logger(__name__)


class InputUnavailable(Exception):
    """An input cannot be brought into the workspace; the text names it."""

    code = "input_unavailable"


class Claim:
    """Keeps a run's claim alive while files are copied, and bears short absences of the database."""

    def __init__(self, claimed: Claimed) -> None:
        self._claimed = claimed
        self._renewed = time.monotonic()

    def keep(self, *, now: bool = False) -> None:
        """Renew the lease if it is time to, or ``now``; to be called between pieces.

        Raises:
            Fenced: the claim is lost.
        """
        asked_at = time.monotonic()
        if not now and asked_at < self._renewed + settings.SWITCHYARD.heartbeat:
            return
        if self.patiently(lambda: renew(self._claimed.task_id, self._claimed.epoch)) is None:
            raise Fenced
        self._renewed = asked_at

    def patiently(self, action: Callable[[], T]) -> T:
        """Do something in the database, again while it is away and the lease lasts.

        Raises:
            Fenced: the database was away for longer.
        """
        while True:
            try:
                return action()
            except (OperationalError, InterfaceError) as error:
                log.warning("database_unreachable", error=str(error))
                connection.close()
                if time.monotonic() > self._renewed + settings.SWITCHYARD.lease:
                    raise Fenced from None
                time.sleep(RETRY_SECONDS)


# -- inputs ------------------------------------------------------------------------------------------


def place_inputs(
    claimed: Claimed, workspace: Path, identity: HandlerIdentity | None, *, cap: int | None
) -> None:
    """Copy the task's inputs to ``inputs/NAME`` in the work folder, as the handler's own files.

    They count against the workspace's limit, ``cap`` bytes.

    Raises:
        InputUnavailable: one is missing, damaged, or does not fit.
        Fenced: another attempt has taken over meanwhile.
    """
    fault_points.reach("before_inputs")
    if not claimed.inputs:
        return
    claim = Claim(claimed)
    files = claim.patiently(lambda: {file.name: file for file in inputs_of(claimed.task_id)})
    missing = [name for name in claimed.inputs if name not in files]
    if missing:
        raise InputUnavailable(f"These inputs are not there: {', '.join(missing)}.")
    total = sum(file.size for file in files.values())
    if cap is not None and total > cap:
        raise InputUnavailable(
            f"The inputs have {total:,} bytes together; the workspace of a run may have {cap:,}."
        )
    folder = work_folder(workspace) / INPUTS
    acting_as(identity, lambda: folder.mkdir(mode=0o700))
    for file in files.values():
        _place(file, folder / file.name, identity, claim)
    claim.keep(now=True)


def _place(file: TaskFile, path: Path, identity: HandlerIdentity | None, claim: Claim) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        target = acting_as(identity, lambda: os.open(path, flags, 0o600))
        with os.fdopen(target, "wb") as written, open_content(file.storage_key) as stored:
            copied = _copy(stored, written, claim)
    except Fenced:
        raise
    except Exception as error:  # each storage has errors of its own
        log.error("input_not_placed", input=file.name, error=str(error))
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise InputUnavailable(
            f"The input {file.name} cannot be copied into the workspace: {why}."
        ) from error
    if copied != file.sha256:
        raise InputUnavailable(f"The input {file.name} is damaged in storage: upload it again.")


def _copy(source: IO[bytes], target: IO[bytes], claim: Claim) -> str:
    """Copy all bytes and return their SHA-256."""
    digest = hashlib.sha256()
    while piece := source.read(CHUNK):
        claim.keep()
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


# -- artifacts ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Harvest:
    """What is kept of a run's files, and why others are not."""

    kept: list[Artifact] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def give_up(self) -> None:
        """Keep nothing: what was stored has been removed again."""
        self.left_out += [f"{artifact.name}: it could not be stored in time." for artifact in self.kept]
        self.kept = []

    def told(self) -> list[str]:
        """Return lines for the log."""
        size = sum(artifact.content.size for artifact in self.kept)
        lines = [f"Artifact left out: {line}" for line in self.left_out[:TOLD]]
        if len(self.left_out) > TOLD:
            lines.append(f"Artifacts left out besides: {len(self.left_out) - TOLD:,}.")
        if self.kept:
            lines.append(f"Artifacts kept: {len(self.kept):,} ({size:,} bytes).")
        return lines


def store_artifacts(
    claimed: Claimed,
    workspace: Path,
    identity: HandlerIdentity | None,
    *,
    named: dict[str, str],
    output: Output,
    clock: Callable[[], datetime],
) -> None:
    """Keep the files that the handler named (name to path), and those that the task's patterns match.

    What cannot be kept changes nothing about how the run ended; a line of its log tells it.

    Raises:
        Fenced: another attempt has taken over; nothing of this one is kept.
    """
    fault_points.reach("before_artifacts")
    patterns = claimed.params.get("artifacts", []) if claimed.type == SHELL else []
    if named or patterns:
        claim = Claim(claimed)
        claim.keep(now=True)
        harvest = _Harvest()
        chosen = _chosen(_matching(workspace, patterns, identity, harvest), named, harvest)
        _store(chosen, workspace, identity, harvest, claim)
        if harvest.kept:
            try:
                claim.patiently(lambda: artifacts_record(claimed.task_id, claimed.epoch, harvest.kept))
            except UploadExpired:
                harvest.give_up()
        if lines := harvest.told():
            for line in lines:
                output.remark(storable_text(line), clock())
            said = output.take()
            # Whoever repeats it cannot know what became of the first try.
            claim.patiently(lambda: append(claimed.task_id, claimed.epoch, said, again=True))
    fault_points.reach("after_artifacts")


def _matching(
    workspace: Path, patterns: list[str], identity: HandlerIdentity | None, harvest: _Harvest
) -> list[str]:
    if not patterns:
        return []
    try:
        return matching(workspace, patterns, identity, tell=harvest.left_out.append)
    except OSError as error:
        log.error("artifacts_not_found", error=str(error))
        harvest.left_out.append("all that the patterns name: the workspace could not be searched.")
        return []


def _chosen(found: Iterable[str], named: dict[str, str], harvest: _Harvest) -> dict[str, str]:
    """Return name to path. What the handler named comes first, and is not kept twice."""
    chosen: dict[str, str] = {}
    cap = settings.SWITCHYARD.max_artifacts
    by_name = set(named.values())
    for name, path in [*named.items(), *((path, path) for path in found if path not in by_name)]:
        shown = storable_text(name)
        if len(shown) > NAME_CAP or shown in chosen:
            harvest.left_out.append(f"{shown[:NAME_CAP]}: its name is too long, or there twice.")
        elif len(chosen) >= cap:
            harvest.left_out.append(f"{shown}: a run may leave {cap:,} files.")
        else:
            chosen[shown] = path
    return chosen


def _store(
    chosen: dict[str, str],
    workspace: Path,
    identity: HandlerIdentity | None,
    harvest: _Harvest,
    claim: Claim,
) -> None:
    cap = left = settings.SWITCHYARD.max_artifact_bytes
    keys = claim.patiently(lambda: reserve(len(chosen))) if chosen else []
    for (name, path), key in zip(chosen.items(), keys, strict=True):
        try:
            with os.fdopen(open_inside(workspace, path, identity), "rb") as stream:
                # Before one byte is copied: a file may say that it is larger than any disk.
                if os.fstat(stream.fileno()).st_size > left:
                    raise TooMuch
                content = fill(key, _reading(stream, claim), cap=left)
        except Fenced:
            raise
        except TooMuch:
            harvest.left_out.append(f"{name}: a run may leave {cap:,} bytes.")
        except WorkspaceError as error:
            harvest.left_out.append(f"{name}: {error}")
        except Exception as error:  # each storage has errors of its own
            log.error("artifact_not_stored", name=name, error=str(error))
            harvest.left_out.append(f"{name}: it could not be stored.")
        else:
            left -= content.size
            media_type = mimetypes.guess_type(name)[0] or ANY_BYTES
            harvest.kept.append(Artifact(name, media_type, content))
    unused = set(keys) - {artifact.content.key for artifact in harvest.kept}
    if unused:
        claim.patiently(lambda: discard(*unused))


def _reading(stream: IO[bytes], claim: Claim) -> Read:
    def read(size: int) -> bytes:
        claim.keep()
        return stream.read(size)

    return read
