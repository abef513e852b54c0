"""Transactions that PostgreSQL ended in favour of another are simply done again, a few times.

A deadlock or a serialization failure (SQLSTATE 40P01, 40001) says that the transaction did nothing and
may succeed at once when repeated. Only whoever began the transaction can repeat it, so inside an
outer one the error goes on to the owner.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg
import structlog
from django.db import OperationalError, connection

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
PAUSE_SECONDS = 0.02
TIES = ("40001", "40P01")

log = structlog.get_logger(__name__)


def is_tie(exception: BaseException | None) -> bool:
    """Tell whether PostgreSQL ended the transaction to break a tie."""
    cause = exception if isinstance(exception, psycopg.Error) else getattr(exception, "__cause__", None)
    return isinstance(cause, psycopg.Error) and cause.sqlstate in TIES


def again_on_ties(function: Callable[P, R]) -> Callable[P, R]:
    """Repeat a function that owns its transaction when it lost a tie, at most :data:`RETRIES` times."""

    @wraps(function)
    def repeated(*args: P.args, **words: P.kwargs) -> R:
        for attempt in range(RETRIES + 1):
            try:
                return function(*args, **words)
            except OperationalError as error:
                if attempt == RETRIES or connection.in_atomic_block or not is_tie(error):
                    raise
                log.info("tie_lost", what=function.__qualname__, attempt=attempt + 1)
            # Whoever lost together must not meet again at the same moment.
            time.sleep(PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    return repeated
