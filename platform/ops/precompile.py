"""Compile the packages that the server imports, so that no start has to (part of `make install`).

The accounts that a platform started by root drops to cannot write beside the packages and would
compile all of Django at every start. Packages that only developers use are left to be compiled when
they are first imported, which halves the time.

    .venv/bin/python platform/ops/precompile.py
"""

from __future__ import annotations

import compileall
import os
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT, EXTRA = "switchyard", "server"


def needed(name: str, extras: frozenset[str], seen: dict[str, Distribution]) -> None:
    """Collect a distribution and all that it requires here, with the extras asked for, by name."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    known = f"{found.metadata['Name'].lower()}[{','.join(sorted(extras))}]"
    if known in seen:
        return
    seen[known] = found
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed(requirement.name, frozenset(requirement.extras), seen)


def compile_files(paths: list[Path]) -> None:
    """Compile one share of the files; what cannot be compiled (templates, tests) is left alone."""
    for path in paths:
        compileall.compile_file(path, quiet=2)


def main() -> None:
    """Compile on all processors."""
    seen: dict[str, Distribution] = {}
    needed(PROJECT, frozenset({EXTRA}), seen)
    paths = sorted(
        {
            Path(str(found.locate_file(file)))
            for found in seen.values()
            for file in found.files or ()
            if file.suffix == ".py"
        }
    )
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(compile_files, [paths[number :: workers * 4] for number in range(workers * 4)]))


if __name__ == "__main__":
    main()
