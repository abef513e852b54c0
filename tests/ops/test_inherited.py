"""A connection made before a fork: each fork has a session of its own, or connects as everybody does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection

from config.databases import databases
from config.postgresql.base import DatabaseWrapper
from rest.patience import PatientConnection
from tasks.services.claim import ASKED
from tests.conftest import Eventually
from tests.ops.test_pooler import pooler


def with_our_tables() -> str:
    name = connection.settings_dict["NAME"]
    return settings.SWITCHYARD.database_url.replace("/switchyard?", f"/{name}?")


@pytest.fixture
def url(db: None, tmp_path: Path, eventually: Eventually) -> Iterator[str]:
    """The address of a pooler in front of the database that has our tables."""
    with pooler(tmp_path, eventually, database=with_our_tables()) as url:
        yield url


def supervisors(url: str) -> DatabaseWrapper:
    """Return a worker's connection, not made yet."""
    described = {**connection.settings_dict, **databases(url, role="worker")["default"]}
    return DatabaseWrapper(described, "default")


def fork(wrapper: DatabaseWrapper, until: int) -> tuple[int, int]:
    """Have a fork ask its connection something, and tell the answer; it lives until it can read."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid(), sum(n) FROM generate_series(1, 100000) n")
                os.write(tell, json.dumps([str(each) for each in cursor.fetchone()]).encode())
            os.close(tell)
            os.read(until, 1)
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    return pid, told


def heard(told: int) -> list[Any]:
    with os.fdopen(told) as answer:
        return list(json.loads(answer.read()))


@pytest.fixture
def no_other_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it has every connection fail that libpq makes from then on."""

    def fail(*_: object) -> None:
        raise psycopg.OperationalError("libpq was to connect")

    return lambda: monkeypatch.setattr(PatientConnection, "directly", fail)


def test_forks_have_sessions_of_their_own(url: str, no_other_way: Callable[[], None]) -> None:
    wrapper = supervisors(url)
    wrapper.bequeath()
    assert wrapper.connection is None
    no_other_way()
    until, go_on = os.pipe()
    forks = [fork(wrapper, until) for _ in range(3)]
    answers = [heard(told) for _, told in forks]
    os.write(go_on, b"!!!")
    assert [os.waitpid(pid, 0)[1] for pid, _ in forks] == [0, 0, 0]
    assert len({backend for backend, _ in answers}) == 3
    assert {added for _, added in answers} == {"5000050000"}


def test_it_can_all_that_a_connection_can(url: str, no_other_way: Callable[[], None]) -> None:
    """Transactions, errors, what is prepared; and once it is closed, its session is another's."""
    wrapper = supervisors(url)
    wrapper.bequeath()
    no_other_way()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()
        cursor.execute(f"EXECUTE {ASKED.name}(gen_random_uuid(), 1)")
        assert cursor.fetchall() == []
        with pytest.raises(DatabaseError, match="division by zero"):
            cursor.execute("SELECT 1/0")
        cursor.execute("BEGIN; CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1 AS n")
        cursor.execute("SELECT n FROM t")
        assert cursor.fetchone() == (1,)
        cursor.execute("COMMIT")
    wrapper.close()
    with psycopg.connect(url) as other:
        assert other.execute("SELECT pg_backend_pid()").fetchone() == backend


def test_what_a_killed_fork_has_not_committed_is_rolled_back(url: str, eventually: Eventually) -> None:
    wrapper = supervisors(url)
    wrapper.bequeath()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(20261130)")
            cursor.execute("BEGIN")
            os.write(tell, b"!")
            signal.pause()
    os.read(ready, 1)
    with psycopg.connect(url, autocommit=True) as watching:

        def free() -> bool:
            row = watching.execute("SELECT pg_try_advisory_lock(20261130)").fetchone()
            return row == (True,)

        assert not free()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        eventually(free, seconds=5)
        watching.execute("SELECT pg_advisory_unlock(20261130)")


def test_where_it_is_greeted_differently_it_connects_anew(url: str) -> None:
    """Of the server's settings libpq would believe what it was told before the fork."""
    name = connection.settings_dict["NAME"]
    wrapper = supervisors(url)
    wrapper.bequeath()
    with psycopg.connect(with_our_tables(), autocommit=True) as admin, closing(wrapper):
        admin.execute(f'ALTER DATABASE "{name}" SET datestyle = german')
        try:
            # Once they are gone: the pooler would give away what it does not know to be ending.
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'switchyard'"
            )
            with wrapper.cursor() as cursor:
                cursor.execute("SHOW datestyle")
                assert cursor.fetchone()[0].startswith("German")
        finally:
            admin.execute(f'ALTER DATABASE "{name}" RESET datestyle')
        assert (wrapper.connection.info.parameter_status("DateStyle") or "").startswith("German")


@pytest.mark.django_db
def test_without_a_pooler_there_is_nothing_to_inherit() -> None:
    wrapper = supervisors(settings.SWITCHYARD.database_url)
    wrapper.bequeath()
    assert wrapper.connection is None
    with closing(wrapper), wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db
def test_a_pooler_that_is_gone_is_an_outage_like_any_other(
    tmp_path: Path, eventually: Eventually
) -> None:
    with pooler(tmp_path, eventually, database=with_our_tables()) as url:
        wrapper = supervisors(url)
        wrapper.bequeath()
    with pytest.raises(OperationalError, match="No such file or directory"):
        wrapper.ensure_connection()
