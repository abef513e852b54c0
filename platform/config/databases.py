"""Turn ``DATABASE_URL`` into Django's ``DATABASES``."""

from __future__ import annotations

from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from config.environment import ConfigurationError

# A client must hear within five seconds when PostgreSQL is away (DESIGN §7, SCENARIOS faults 31 to
# 37), so connecting and waiting for a pooled connection together stay below that.
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 4
POOL_MAX = 24


def databases(url: str, *, pooled: bool) -> dict[str, Any]:
    """Return Django's ``DATABASES`` for one PostgreSQL URL.

    ``pooled`` is for the web process alone: an ASGI request runs in a thread of its own, so a
    connection that is kept per thread would never be used again. Forking processes must not pool.
    """
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise ConfigurationError(f"DATABASE_URL: {error}") from None
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "switchyard",
    }
    known = {"dbname", "user", "password", "host", "port"}
    options.update({name: value for name, value in parts.items() if name not in known})
    if pooled:
        options["pool"] = {
            "min_size": 2,
            "max_size": POOL_MAX,
            "timeout": POOL_TIMEOUT_SECONDS,
        }
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.get("dbname", "switchyard"),
            "USER": parts.get("user", ""),
            "PASSWORD": parts.get("password", ""),
            "HOST": parts.get("host", ""),
            "PORT": str(parts.get("port", "")),
            "OPTIONS": options,
            "CONN_MAX_AGE": 0,
            # After a restart of PostgreSQL the pool is full of dead connections: each is looked at
            # before it is handed out, so the first requests afterwards are served.
            "CONN_HEALTH_CHECKS": pooled,
            "TEST": {"NAME": "test_switchyard"},
        }
    }
