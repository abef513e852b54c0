"""Celery's command line for our application, without the shell for people that it brings along.

``python -m workers worker -Q normal`` is ``celery -A workers worker -Q normal``. That one also loads a
line editor and a highlighter of Python (click_repl, prompt_toolkit, pygments) for `celery amqp` and
`celery report`: 8 MiB of the 77 that each fork of a worker would have to take over, and a tenth of the
time that its imports take.
"""

from __future__ import annotations

import sys
from types import ModuleType


def main() -> None:
    """Run Celery's command line; never returns."""
    shell = ModuleType("click_repl")
    shell.register_repl = lambda *_arguments: None  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    sys.modules["pygments"] = None  # type: ignore[assignment]  # Celery does without
    sys.argv[1:1] = ["-A", "workers"]

    from celery.__main__ import main as run_celery

    run_celery()


if __name__ == "__main__":
    main()
