"""The one clock: the database's, in UTC."""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """Return the time of the current transaction by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        row = cursor.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
    moment: datetime = row[0]
    return moment
