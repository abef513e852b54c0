"""Structured logs: JSON lines in production, readable lines on a terminal.

Every line carries what is bound at the time: request, tenant, task and attempt (structlog's context
variables). Control characters in values are escaped by both renderers, so a tenant's text can forge
neither a line nor a terminal command.
"""

from __future__ import annotations

import sys
from typing import Any

# structlog would load rich for the console, 3 MiB in every process, and a worker forks for each run.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402
from structlog.types import EventDict, Processor, WrappedLogger  # noqa: E402

if sys.modules["rich"] is None:
    del sys.modules["rich"]


def _printable(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape control characters, which a console would otherwise obey."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(
                char if char.isprintable() or (char == "\n" and key == "exception") else repr(char)[1:-1]
                for char in value
            )
    return event


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.StackInfoRenderer(),
]


def logging_config(*, json: bool, level: str) -> dict[str, Any]:
    """Return ``LOGGING`` for Django, and configure structlog to feed it."""
    structlog.configure(
        processors=[
            *SHARED,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    _printable,
                    last,
                ],
                "foreign_pre_chain": SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # One line a request is the web server's business, not also Django's.
            "django.server": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "django_structlog": {"level": "WARNING"},
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
