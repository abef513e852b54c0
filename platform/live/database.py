"""Database work of async code: in a few threads, and without keeping a connection afterwards.

A waiting connection costs a coroutine and no connection. The number of threads is also the number
of database connections that all live views of one process use together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar, cast

from channels.db import DatabaseSyncToAsync

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 8
_EXECUTOR = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="live")


def in_database(function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Return an async form of a function that asks the database.

    Threads of our own, because Channels' default is one thread for everybody: one slow query would
    hold up each socket.
    """
    # Connections are closed (given back to the pool) after each call, because CONN_MAX_AGE is 0.
    wrapped = DatabaseSyncToAsync(function, thread_sensitive=False, executor=_EXECUTOR)
    return cast("Callable[P, Awaitable[R]]", wrapped)
