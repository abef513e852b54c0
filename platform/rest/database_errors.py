"""What the database's own trouble looks like, and the 503 it becomes (never a 500)."""

from __future__ import annotations

import psycopg
from django.db import connection, utils

from rest.errors import Unavailable
from rest.ties import is_tie

OF_THE_SERVER = ("53", "57", "58")
"""Classes of SQLSTATE: insufficient resources, an operator's intervention, errors of the system."""


class DatabaseAway(Unavailable):
    """PostgreSQL cannot be reached, takes no more connections, or is restarting."""

    code = "database_unavailable"
    default_detail = (
        "The database does not answer at the moment. Try again; with the same Idempotency-Key nothing "
        "is created twice, should the first try have succeeded after all."
    )


class DatabaseBusy(Unavailable):
    """PostgreSQL ended this transaction in favour of another one, again and again."""

    code = "database_busy"
    default_detail = "Too many changes to the same thing at once; nothing was changed, try again."


def is_outage(exception: BaseException | None) -> bool:
    """Tell whether the exception comes from the state of the database, not from a wrong query."""
    return isinstance(
        exception,
        utils.OperationalError
        | utils.InterfaceError
        | psycopg.OperationalError
        | psycopg.InterfaceError,
    )


def is_away(exception: BaseException) -> bool:
    """Tell whether an exception is no single statement's trouble but all's: the session is gone, or the
    server is out of disk, memory or patience."""
    cause = exception if isinstance(exception, psycopg.Error) else exception.__cause__
    state = (cause.sqlstate or "") if isinstance(cause, psycopg.Error) else ""
    return is_outage(exception) and (state[:2] in OF_THE_SERVER or not connection.is_usable())


def outage_problem(exception: BaseException) -> Unavailable:
    """Return the 503 for an exception that :func:`is_outage` accepts."""
    if is_tie(exception):
        return DatabaseBusy(retry_after=1)
    return DatabaseAway(retry_after=2)
