"""Waking the dispatcher after a commit, by PostgreSQL's NOTIFY.

NOTIFY takes a lock that all committing transactions of the server share, so it is sent apart from
the transaction it tells of, and at most once per :data:`DEBOUNCE_SECONDS` and process. It is only a
doorbell: the dispatcher's poll finds everything without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import psycopg
import structlog
from django.conf import settings
from django.db import transaction

from rest.patience import PatientConnection
from rest.statements import Statement, ask

CHANNEL = "switchyard_wake"
DEBOUNCE_SECONDS = 0.005
SILENCE_SECONDS = 4.0
ENDED, KEY_FREED = "ended", "key"
"""Names of no lane: a run has ended and put nothing in line; the key of its task is free as well."""

MAX_LANES = 200
"""Lanes named in one notification; more are told as ``*``: look everywhere."""

NOTIFY = Statement(f"SELECT pg_notify('{CHANNEL}', %(what)s)")

log = structlog.get_logger(__name__)


def wake_up(what: str) -> bytes:
    """Return what tells the dispatcher, for who asks it behind a COMMIT (:mod:`rest.statements`).

    ``what``: a lane that has grown, or :data:`ENDED`, or :data:`KEY_FREED`.
    """
    return NOTIFY.of({"what": what})


def _lane(queue: str, tenant_id: int) -> str:
    """Return how a notification names a lane."""
    return f"{queue}:{tenant_id}"


def wake_on_commit(queue: str, tenant_id: int) -> None:
    """Tell the dispatcher, after the commit, that something changed in this lane."""
    transaction.on_commit(lambda: _ringer()(queue, tenant_id), robust=True)


@cache
def _ringer() -> Callable[[str, int], None]:
    if settings.SWITCHYARD.role == "web":
        return _Debouncer().ring
    return _ring_now


def _ring_now(queue: str, tenant_id: int) -> None:
    ask(wake_up(_lane(queue, tenant_id)))


class _Debouncer:
    """Gathers the lanes of many requests and notifies from one thread with its own connection.

    The first ring goes out at once; those that follow within the interval share the next one.
    """

    def __init__(self) -> None:
        self._lanes: set[str] = set()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="wakeup", daemon=True).start()

    def ring(self, queue: str, tenant_id: int) -> None:
        with self._changed:
            self._lanes.add(_lane(queue, tenant_id))
            self._changed.notify()

    def _run(self) -> None:
        connected: PatientConnection | None = None
        pause = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lanes)
                lanes, self._lanes = self._lanes, set()
            payload = " ".join(sorted(lanes)) if len(lanes) <= MAX_LANES else "*"
            try:
                if connected is None or connected.closed:
                    connected = PatientConnection.connect(
                        settings.SWITCHYARD.database_url, autocommit=True, connect_timeout=3
                    )
                    connected.silence = SILENCE_SECONDS
                connected.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
            except psycopg.Error as error:
                log.info("wakeup_lost", error=str(error))
                connected = None
            except Exception:
                # A lost wake-up costs a poll's time; a thread that has died, that of every submission.
                log.exception("wakeup_lost")
                connected = None
            pause.wait(DEBOUNCE_SECONDS)
