"""How Django reaches PostgreSQL, by the role of the process."""

from __future__ import annotations

from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from config.environment import ConfigurationError
from rest.patience import IDLE_IN_TRANSACTION, PatientConnection

# A client must hear within five seconds when PostgreSQL is away (docs/faults.md): `rest.outages`
# gives a request three of silence; a busy machine may take the rest.
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 3

SILENCE_SECONDS: dict[str, float] = {
    "web": 3,
    "dispatcher": 15,
    "worker": 15,
    "pools": 15,
    "beat": 60,
    "system": 60,
}
"""For how long a statement of a role waits for an answer. `manage` is not listed: a migration may
take what it takes, and somebody is watching."""

HURRIED = frozenset({"web", "dispatcher", "worker", "pools"})
"""Who locks tasks, and so has no business to sleep in a transaction. (The system worker removes files
in one, from a storage that may be slow.)"""

LASTING = frozenset({"web", "dispatcher"})
"""Whose sessions serve them for long: what they ask again and again is prepared in them."""

ONLY_ON_REQUEST = 2**31
"""How often psycopg sees a text before it prepares it by itself: never, but it obeys who asks for it."""

GROW_SECONDS = 1.0
"""How long the pool tries to make a connection by itself. Its own five minutes come with doubling
pauses, after which a server that is back would not be noticed for minutes; a request that finds the
pool empty makes it try again anyway."""


def databases(url: str, *, role: str, web_connections: int = 24) -> dict[str, Any]:
    """Return Django's ``DATABASES`` for one PostgreSQL URL.

    Only the web process pools: an ASGI request runs in a thread of its own, so a connection that is
    kept per thread would never be used again. Forking processes must not pool. The pool is also the
    bound that leaves the server's other connections to the workers.
    """
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise ConfigurationError(f"DATABASE_URL: {error}") from None
    pooled = role == "web"
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # Seen in pg_stat_activity.
        "application_name": f"switchyard-{role}",
    }
    known = {"dbname", "user", "password", "host", "port"}
    if role in HURRIED:
        options["options"] = IDLE_IN_TRANSACTION
    if role in LASTING:
        options["prepare_threshold"] = ONLY_ON_REQUEST
    options.update({name: value for name, value in parts.items() if name not in known})
    if pooled:
        options["pool"] = {
            "connection_class": PatientConnection,
            "min_size": min(2, web_connections),
            "max_size": web_connections,
            "timeout": POOL_TIMEOUT_SECONDS,
            "reconnect_timeout": GROW_SECONDS,
        }
    return {
        "default": {
            "ENGINE": "config.postgresql",
            "NAME": parts.get("dbname", "switchyard"),
            "USER": parts.get("user", ""),
            "PASSWORD": parts.get("password", ""),
            "HOST": parts.get("host", ""),
            "PORT": str(parts.get("port", "")),
            "OPTIONS": options,
            "SILENCE": SILENCE_SECONDS.get(role),
            "FORKED": role == "worker",
            "LASTING": role in LASTING,
            "CONN_MAX_AGE": 0,
            "TEST": {"NAME": "test_switchyard"},
        }
    }
