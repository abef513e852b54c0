"""The interpreter in which a handler runs: at level `full` one of its own, exec'd within the walls.

    argv: <our root> <that of the handler API> [folders of installed handlers...]

Below `full` the launcher or a server becomes the handler in the interpreter that it has.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PIPES = (3, 4)
"""Orders in and messages out."""
ROOTS = 2


def main() -> NoReturn:
    """Keep the two pipes from what the handler starts, and run it; never returns."""
    for descriptor in PIPES:
        os.set_inheritable(descriptor, False)
    import_ours(sys.argv[1 : 1 + ROOTS], sys.argv[1 + ROOTS :])
    run()


def import_ours(roots: Sequence[str], python_path: Sequence[str]) -> None:
    """Load our own packages while the folders they stand in can still be listed.

    Afterwards they find their own parts by themselves, and nothing beside them can be imported.
    """
    sys.dont_write_bytecode = True
    ours = sys.path[:]
    sys.path[:0] = roots
    import switchyard.runtime  # noqa: F401
    import workers.handlers
    import workers.sandbox  # noqa: F401

    sys.path[:] = [*ours, *python_path]


def run() -> NoReturn:
    """Be the handler, whose packages are loaded."""
    from switchyard.runtime import leave, main

    leave(main())
