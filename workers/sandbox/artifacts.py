"""Which files of a work folder match the patterns of a task, following no link.

Patterns and names are both the tenant's, so matching must not be a way to burn the supervisor's time:
`**` is resolved folder by folder, and within a name `fnmatch` makes expressions that never backtrack.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from workers.sandbox.identity import acting_as
from workers.sandbox.launch import HandlerIdentity
from workers.sandbox.workspace import work_folder

SEEN_CAP = 100_000
"""Entries looked at; a run that made more of them gets what was found until then, and is told."""

ANY_DEPTH = "**"


def matching(
    workspace: Path,
    patterns: Iterable[str],
    identity: HandlerIdentity | None = None,
    *,
    tell: Callable[[str], object],
) -> list[str]:
    """Paths relative to the work folder, sorted; `**` is any depth, `*` and `?` stay in a name.

    Only regular files; open them with `open_inside`, for the names are the handler's. ``tell`` is called
    with a sentence about each place that was not looked at.
    """
    wanted = [compiled(pattern) for pattern in patterns]
    folder = os.fspath(work_folder(workspace))

    def find() -> list[str]:
        found = (path.split("/") for path in _files(folder, tell))
        return sorted("/".join(parts) for parts in found if any(fits(each, parts) for each in wanted))

    return acting_as(identity, find)


def compiled(pattern: str) -> list[re.Pattern[str] | None]:
    """A pattern by its parts between slashes; None is `**`."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/"):  # absolute: nothing inside has such a path
        parts.insert(0, "/")
    return [None if part == ANY_DEPTH else re.compile(fnmatch.translate(part)) for part in parts]


def fits(pattern: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """Whether a path fits; in each step `at` holds every place of the pattern that is reached."""
    at = _skipping(pattern, {0})
    for part in parts:
        after: set[int] = set()
        for place in at:
            if place == len(pattern):
                continue
            expression = pattern[place]
            if expression is None:
                after.add(place)
            elif expression.match(part):
                after.add(place + 1)
        at = _skipping(pattern, after)
    return len(pattern) in at


def _skipping(pattern: Sequence[re.Pattern[str] | None], places: set[int]) -> set[int]:
    """`places` and those behind any `**`, which may stand for no folder at all."""
    reached = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] is None:
            place += 1
            reached.add(place)
    return reached


def _files(root: str, tell: Callable[[str], object]) -> Iterator[str]:
    waiting, seen = [""], 0
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, below)))
        except OSError as error:
            tell(f"{below or '.'}: it cannot be looked into ({error.strerror}).")
            continue
        for entry in entries:
            seen += 1
            if seen > SEEN_CAP:
                tell(f"what lies behind the first {SEEN_CAP:,} files and folders: it was not looked at.")
                return
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_file(follow_symlinks=False):
                yield path
