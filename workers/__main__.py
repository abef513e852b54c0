"""Celery's command line for our application, without what Celery loads in case it is of use.

``python -m workers worker -Q normal`` is ``celery -A workers worker -Q normal``. That one also loads a
line editor and a highlighter of Python for `celery amqp` and `celery report`, encodings that no message
of ours has, and green threads: 9 MiB of the 77, and 40 of 460 mappings, that each fork of a worker would
have to take over, and a tenth of the time that its imports take.
"""

from __future__ import annotations

import sys
from types import ModuleType

DONE_WITHOUT = ("pygments", "yaml", "brotli", "greenlet", "psutil")
"""Celery and kombu try to import these, and go on where they are not installed."""


def main() -> None:
    """Run Celery's command line; never returns."""
    shell = ModuleType("click_repl")
    shell.register_repl = lambda *_arguments: None  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    sys.modules.update(dict.fromkeys(DONE_WITHOUT))  # type: ignore[arg-type]
    sys.argv[1:1] = ["-A", "workers"]

    from celery.__main__ import main as run_celery

    run_celery()


if __name__ == "__main__":
    main()
