"""A silent database costs a bounded time, once per request, and spoils nothing that comes after."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from rest.patience import IDLE_IN_TRANSACTION, DatabaseSilent, PatientConnection, patient
from tests.chaos.proxy import Proxy, Way


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the session's PostgreSQL."""
    with Proxy(int(str(conninfo_to_dict(settings.SWITCHYARD.database_url)["port"]))) as running:
        yield running


def connected(proxy: Proxy) -> PatientConnection:
    parts = conninfo_to_dict(settings.SWITCHYARD.database_url)
    parts |= {"host": "127.0.0.1", "port": proxy.port}
    return PatientConnection.connect(**parts, autocommit=True)


@pytest.mark.parametrize("way", [Way.FROZEN, Way.DEAF])
def test_a_statement_without_an_answer_ends_with_its_connection(proxy: Proxy, way: Way) -> None:
    connection = connected(proxy)
    connection.silence = 0.5
    proxy.set(way)
    began = time.monotonic()
    with pytest.raises(DatabaseSilent):
        connection.execute("SELECT 1")
    assert 0.4 < time.monotonic() - began < 2
    assert connection.closed


def test_a_request_waits_once_for_all_that_it_asks(proxy: Proxy) -> None:
    connections = [connected(proxy) for _ in range(3)]
    proxy.set(Way.FROZEN)
    began = time.monotonic()
    with patient(0.5):
        for connection in connections:
            with pytest.raises(DatabaseSilent):
                connection.execute("SELECT 1")
    assert time.monotonic() - began < 1.5


def test_answers_renew_the_patience(proxy: Proxy) -> None:
    connection = connected(proxy)
    with patient(0.6):
        for _ in range(4):
            connection.execute("SELECT pg_sleep(0.3)")
    connection.close()


def test_without_a_bound_a_statement_may_take_its_time(proxy: Proxy) -> None:
    connection = connected(proxy)
    connection.execute("SELECT pg_sleep(0.3)")
    connection.close()


def test_whoever_slept_too_long_in_a_transaction_has_lost_its_connection(proxy: Proxy) -> None:
    parts = conninfo_to_dict(settings.SWITCHYARD.database_url)
    parts |= {"host": "127.0.0.1", "port": proxy.port, "options": IDLE_IN_TRANSACTION}
    sleeper = PatientConnection.connect(**parts)
    watcher = connected(proxy)
    shown = sleeper.execute("SHOW idle_in_transaction_session_timeout").fetchone()
    assert shown == ("8s",)
    sleeper.execute("SET idle_in_transaction_session_timeout = '50ms'")
    ask = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    deadline = time.monotonic() + 10
    while watcher.execute(ask, [sleeper.info.backend_pid]).fetchone() != (0,):
        assert time.monotonic() < deadline
    with pytest.raises(DatabaseSilent):
        sleeper.execute("SELECT 1")
    assert sleeper.closed
    watcher.close()
