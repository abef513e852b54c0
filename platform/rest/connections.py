"""Database connections of views that talk with a client for long."""

from __future__ import annotations

from django.db import connection


def give_connection_back() -> None:
    """Return this thread's connection to the pool; the next query takes one again.

    A slow upload or download must not hold what other requests wait for.
    """
    if not connection.in_atomic_block:
        connection.close()
