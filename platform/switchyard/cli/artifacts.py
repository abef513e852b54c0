"""`switchyard tasks artifacts`: what a task's runs have left, listed or downloaded."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from switchyard.cli import exit_codes
from switchyard.cli.output import Output
from switchyard.cli.terminal import Screen
from switchyard.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.client import Artifact, Client

LONGEST_PART = 200
"""File systems take 255 bytes for a name; ours during a download is a little longer."""


def list_artifacts(output: Output, found: Sequence[Artifact]) -> int:
    """Print a table, or with `--json` the artifacts as they came."""
    if output.json:
        output.data([artifact.raw for artifact in found])
        return exit_codes.OK
    rows = [(artifact.name, artifact.run, size_of(artifact.size)) for artifact in found]
    output.table(("NAME", "RUN", "SIZE"), rows, "Its runs have left no artifacts.")
    return exit_codes.OK


def download(client: Client, output: Output, task: str, found: Sequence[Artifact], folder: Path) -> int:
    """Save the artifacts below `folder`: of several with one name the newest."""
    folder.mkdir(parents=True, exist_ok=True)
    saved: dict[str, Artifact] = {}
    refused = False
    for artifact in found:
        target = place_of(folder, artifact.name)
        if target is None:
            output.note(f"{artifact.name}: not saved, for this name leads out of {folder}.", "red")
            refused = True
            continue
        if str(target) in saved:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _save(client, task, artifact, target)
        saved[str(target)] = artifact
        if not output.json:
            output.line(printable(str(target)))
    if output.json:
        output.data([{**artifact.raw, "path": path} for path, artifact in saved.items()])
    elif not found:
        output.note("Its runs have left no artifacts.")
    return exit_codes.ERROR if refused else exit_codes.OK


def place_of(folder: Path, name: str) -> Path | None:
    """Return where below `folder` an artifact of this name goes; None if it may not go anywhere.

    The name is a path that somebody's handler chose. Characters that hide or command become
    underscores; links that are there already are not followed out of the folder.
    """
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return None
    clean = ["".join(c if c.isprintable() and c != "\\" else "_" for c in part) for part in parts]
    if any(len(part.encode()) > LONGEST_PART for part in clean):
        return None
    base = folder.resolve()
    target = base.joinpath(*PurePosixPath(*clean).parts)
    if not target.parent.resolve().is_relative_to(base):
        return None
    return target


def size_of(count: int) -> str:
    """Return a number of bytes as people say it: `17 B`, `1.5 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _save(client: Client, task: str, artifact: Artifact, target: Path) -> None:
    with Screen() as screen:

        def show(received: int) -> None:
            screen.progress(100 * received / max(1, artifact.size), artifact.name)

        client.artifacts.save(task, artifact, target, on_bytes=show)
