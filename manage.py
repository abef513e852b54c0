#!/usr/bin/env python
"""Django's command line, with both source roots importable even without an installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run a management command; a wrong setting ends it with one sentence."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "platform"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["up"]:
        # `up` makes the settings that every other command needs, so it must not read them.
        from ops.up.command import run

        sys.exit(run(sys.argv[2:]))
    from django.core.management import execute_from_command_line

    from config.environment import ConfigurationError

    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        sys.exit(f"switchyard: {error}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # The shell's convention: 128 + SIGINT.
        sys.exit(130)
