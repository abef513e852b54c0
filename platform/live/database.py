"""Database work of async code: in a few threads, and without keeping a connection afterwards.

A waiting connection costs a coroutine and no connection. The number of threads is also the number
of database connections that all live views of one process use together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from channels.db import DatabaseSyncToAsync

from rest.patience import DatabaseSilent, patient

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 8
SILENCE_SECONDS = 3.0
"""How long one call puts up with a silent database."""

QUEUE_SECONDS = 0.5
"""How much longer it lasts at most with the wait for a thread, which silent calls may hold."""

_EXECUTOR = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="live")


def in_database(function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Return an async form of a function that asks the database.

    Threads of our own, because Channels' default is one thread for everybody: one slow query would
    hold up each socket. A silent database ends the call with ``DatabaseSilent``.
    """

    @wraps(function)
    def patiently(*args: P.args, **words: P.kwargs) -> R:
        with patient(SILENCE_SECONDS):
            return function(*args, **words)

    # Connections are closed (given back to the pool) after each call, because CONN_MAX_AGE is 0.
    in_thread = cast(
        "Callable[P, Awaitable[R]]",
        DatabaseSyncToAsync(patiently, thread_sensitive=False, executor=_EXECUTOR),
    )

    @wraps(function)
    async def bounded(*args: P.args, **words: P.kwargs) -> R:
        try:
            async with asyncio.timeout(SILENCE_SECONDS + QUEUE_SECONDS):
                return await in_thread(*args, **words)
        except TimeoutError:
            raise DatabaseSilent("the database, or the queue before it, was silent") from None

    return bounded
