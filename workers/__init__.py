"""How work is done: Celery app, dispatcher, supervisor, sandbox, recovery, handlers.

Stays light to import: built-in handlers are imported from here inside the sandbox, where neither
Celery nor Django exists. `celery -A workers` finds the app through the lazy attribute.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from celery import Celery

    app: Celery


def __getattr__(name: str) -> object:
    """Import the Celery app when it is first asked for."""
    if name == "app":
        from workers.celery_app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
