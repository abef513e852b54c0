"""Switchyard for those who write task types, and for those who call the platform.

A handler is a function and a description of its params:

    from switchyard import RunContext, TaskError, handler

    @handler("metadata.validate", queue="critical", params=Validate, idempotent=True)
    def validate(run: RunContext, params: Validate) -> dict:
        run.progress(10, "reading")
        ...

Free of Django, and of everything that is slow to import: this package is loaded at the start of
every run, inside the sandbox.
"""

from __future__ import annotations

from switchyard.context import RunContext
from switchyard.errors import Cancelled, TaskError
from switchyard.handler import Command, handler

__all__ = ["Cancelled", "Command", "RunContext", "TaskError", "handler"]
