"""A PostgreSQL that is not ours: what to say when it cannot be reached."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict

CONNECT_SECONDS = 5


def unreachable(url: str) -> str | None:
    """Return the sentence on why a database cannot be reached; None when it can be, or is no address.

    Asked only after something has failed: the account that we are may be refused where the one that our
    programs run as is not.
    """
    try:
        parts = conninfo_to_dict(url)
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS):
            return None
    except psycopg.OperationalError as error:
        where = f"{parts.get('host') or 'its socket'}:{parts.get('port') or 5432}"
        why = " ".join(str(error).split()).rstrip(".")
        return f"PostgreSQL at {where} (DATABASE_URL) cannot be reached: {why}."
    except psycopg.Error:
        return None
