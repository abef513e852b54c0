"""The monthly partitions of events and logs (migrations 0002 and 0015 explain how they are cut)."""

from __future__ import annotations

import psycopg
import structlog
from django.db import OperationalError, connection, transaction

MONTHS_AHEAD = 3
"""So many months' partitions wait ready; a row beyond them would go to the default partition."""

log = structlog.get_logger(__name__)


def ensure_history_partitions(ahead: int = MONTHS_AHEAD) -> int:
    """Make the partitions of this month and the ``ahead`` next ones; return how many were missing.

    None are made, and 0 is returned, if somebody reads the history for so long that writers would have
    to wait: that is logged, and the next call tries again.
    """
    return _changed("ensure_history_partitions(%s)", ahead)


def drop_history_partitions(seconds: float) -> int:
    """Drop the months that ended more than ``seconds`` ago and have no task that lives; return how many.

    None are dropped where :func:`ensure_history_partitions` would make none.
    """
    return _changed("drop_history_partitions(now() - make_interval(secs => %s))", seconds)


def _changed(call: str, value: float) -> int:
    """Call one of the functions of the migrations; each is a transaction of its own."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT {call}", [value])
            row = cursor.fetchone()
    except OperationalError as error:
        if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise
        log.warning("history_in_use", call=call.partition("(")[0], error=str(error))
        return 0
    return int(row[0]) if row else 0
