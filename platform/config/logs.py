"""Structured logs: JSON lines in production, readable lines on a terminal.

Every line carries what is bound at the time: request, tenant, task and attempt (structlog's context
variables). Control characters in values are escaped by both renderers, so a tenant's text can forge
neither a line nor a terminal command.

Our own lines are written by structlog itself. By way of Python's logging, whose lines of libraries look
the same, it was 55 functions for a line, and a supervisor, which writes one, called 400 in all.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

# structlog would load rich for the console, 3 MiB in every process, and a worker forks for each run.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402
from structlog.types import EventDict, Processor, WrappedLogger  # noqa: E402

if sys.modules["rich"] is None:
    del sys.modules["rich"]


class StandardError:
    """What a logger of structlog's writes its finished lines to; ``name`` is the logger's."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        """Write a line; nobody's work fails because it could not be told."""
        with suppress(OSError, ValueError):
            # In one piece, so that lines of threads do not mix.
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = write


def _printable(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape control characters, which a console would otherwise obey."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(
                char if char.isprintable() or (char == "\n" and key == "exception") else repr(char)[1:-1]
                for char in value
            )
    return event


def _described(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Say how serious it is, who says it and when; and where it happened, if that is to be told."""
    record = event.get("_record")  # of Python's logging
    event["level"] = name
    event["logger"] = logger.name if record is None else record.name
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if "exc_info" in event or "stack_info" in event:
        event = structlog.processors.StackInfoRenderer()(logger, name, event)
        event = structlog.processors.format_exc_info(logger, name, event)
    return event


def logging_config(*, json: bool, level: str) -> dict[str, Any]:
    """Return ``LOGGING`` for Django, the libraries' way to the same lines, and configure structlog."""
    first: list[Processor] = [structlog.contextvars.merge_contextvars, _described]
    last: list[Processor] = [
        _printable,
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False),
    ]
    structlog.configure(
        processors=[*first, *last],
        logger_factory=StandardError,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *last,
                ],
                "foreign_pre_chain": first,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # One line a request is the web server's business, not also Django's.
            "django.server": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "kombu": {"level": "WARNING"},
            # Two lines a run, beside the supervisor's own that says more.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # At INFO it tells each socket's address with its query, where a careless client may have
            # put a token.
            "uvicorn.error": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "asyncio": {"level": "WARNING"},
        },
    }
