"""The pooler of connections: what it passes on, and above all what it never does."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from ops.pools.connections import OF_EVERY_RUN, pooled_connections
from ops.pools.protocol import Frames
from rest.patience import PREPARED
from tasks.services.claim import ASKED
from tests.conftest import Eventually
from tests.tenants.callers import the_trail_may_be_emptied_between_tests

__all__ = ["the_trail_may_be_emptied_between_tests"]

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def pooler(
    tmp_path: Path, eventually: Eventually, *, database: str = settings.SWITCHYARD.database_url
) -> Iterator[str]:
    """Run a pooler in front of a database, by default an empty one; gives its address."""
    made = pooled_connections(database, preferred=tmp_path / "s", directory=ROOT, logs=tmp_path)
    assert made is not None
    # Not by the supervisor's Watch: that one ends every child of its process that it did not start,
    # here the test servers.
    log = (tmp_path / "pooler.log").open("w")
    process = subprocess.Popen(made.program.argv, env=made.program.environment, cwd=ROOT, stderr=log)
    try:
        eventually(made.ready, seconds=20)
        yield made.url
    finally:
        process.terminate()
        process.wait(10)
        made.remove()
    assert "Traceback" not in (tmp_path / "pooler.log").read_text()
    assert not made.folder.exists()


@pytest.fixture
def url(tmp_path: Path, eventually: Eventually) -> Iterator[str]:
    """The address of a running pooler."""
    with pooler(tmp_path, eventually) as address:
        yield address


def backend(connection: psycopg.Connection[tuple[int]]) -> int:
    """Return the server process of a session; what a client is told must be the true one."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.commit()
    assert row is not None
    assert row[0] == connection.info.backend_pid
    return int(row[0])


def test_a_session_at_rest_is_given_to_the_next_client(url: str, eventually: Eventually) -> None:
    """Which is the point: the second client pays for no new server process."""
    with psycopg.connect(url) as first:
        before = backend(first)
        assert first.info.parameter_status("TimeZone") == "UTC"

    def same() -> bool:
        with psycopg.connect(url) as other:
            return backend(other) == before

    eventually(same, seconds=5)


@pytest.mark.django_db(transaction=True)
def test_a_session_has_prepared_what_every_run_asks_and_says_so(
    tmp_path: Path, eventually: Eventually
) -> None:
    # The one with our tables.
    name = connection.settings_dict["NAME"]
    database = settings.SWITCHYARD.database_url.replace("/switchyard?", f"/{name}?")
    with pooler(tmp_path, eventually, database=database) as url, psycopg.connect(url) as session:
        told = session.pgconn.parameter_status(PREPARED) or b""
        assert told.decode().split() == [statement.name for statement in OF_EVERY_RUN]
        known = session.execute("SELECT name FROM pg_prepared_statements").fetchall()
        assert {name for (name,) in known} == set(told.decode().split())
        assert session.execute(f"EXECUTE {ASKED.name}(gen_random_uuid(), 1)").fetchall() == []


def test_where_nothing_can_be_prepared_clients_are_served_all_the_same(url: str) -> None:
    with psycopg.connect(url) as session:
        assert session.pgconn.parameter_status(PREPARED) is None
        assert backend(session)


def test_two_clients_at_once_never_share_a_session(url: str) -> None:
    """A session belongs to one client until that one has gone."""
    with psycopg.connect(url) as one, psycopg.connect(url) as other:
        assert backend(one) != backend(other)


KILLED = """
import os, signal, sys, psycopg
connection = psycopg.connect(sys.argv[1])
connection.execute(sys.argv[2])
print(connection.info.backend_pid, flush=True)
if len(sys.argv) > 3:
    connection.pgconn.send_query(sys.argv[3].encode())
    connection.pgconn.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_client(url: str, *statements: str) -> int:
    """Run statements in a process that dies without a word; return its session's server process."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, url, *statements], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("more", [(), ("SELECT pg_sleep(30)",)], ids=["idle in it", "in a query"])
def test_what_a_killed_client_has_not_committed_is_rolled_back(
    url: str, more: tuple[str, ...], eventually: Eventually
) -> None:
    """Its session is closed and never given to another, also not with a query still going on."""
    with psycopg.connect(url) as watching:
        watching.execute("CREATE TABLE IF NOT EXISTS pooler_test (x int)")
        watching.execute("TRUNCATE pooler_test")
        watching.commit()
        dead = left_by_a_killed_client(url, "INSERT INTO pooler_test VALUES (1)", *more)
        for _ in range(5):
            with psycopg.connect(url) as other:
                assert backend(other) != dead

        def gone() -> bool:
            row = watching.execute(
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                " WHERE c.relname = 'pooler_test' AND l.pid = %s",
                [dead],
            ).fetchone()
            watching.commit()
            return row == (0,)

        if not more:
            eventually(gone, seconds=5)
        assert watching.execute("SELECT count(*) FROM pooler_test").fetchone() == (0,)
        watching.execute("SELECT pg_terminate_backend(%s)", [dead])
        watching.execute("DROP TABLE pooler_test")


def test_a_server_process_that_dies_takes_its_client_along_and_no_other(url: str) -> None:
    """The client sees a lost connection, as it would without the pooler, and can connect again."""
    with psycopg.connect(url) as other:
        victim = psycopg.connect(url)
        other.execute("SELECT pg_terminate_backend(%s)", [backend(victim)])
        other.commit()
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT pg_sleep(10)")
        assert backend(other)
    with psycopg.connect(url) as again:
        assert again.execute("SELECT 1").fetchone() == (1,)


def test_an_idle_session_that_the_server_has_ended_is_not_handed_out(url: str) -> None:
    """A restart of PostgreSQL leaves a pool of dead sessions: each client gets a live one."""
    with psycopg.connect(url) as first:
        pid = backend(first)
    with psycopg.connect(settings.SWITCHYARD.database_url, autocommit=True) as direct:
        direct.execute("SELECT pg_terminate_backend(%s)", [pid])
        while direct.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            pass
    for _ in range(3):
        with psycopg.connect(url) as other:
            assert backend(other) != pid


def test_only_the_password_opens_and_only_the_account_reaches_it(url: str) -> None:
    """A handler of the same account has no password; one of another cannot enter the folder."""
    with pytest.raises(psycopg.OperationalError, match="password is wrong"):
        psycopg.connect(url, password="guessed")
    folder = Path(psycopg.conninfo.conninfo_to_dict(url)["host"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_many_clients_at_once_get_their_own_answers(url: str) -> None:
    """Large answers and small ones side by side, none mixed up, none cut."""
    wrong = []

    def ask(number: int) -> None:
        with psycopg.connect(url) as connection:
            for size in (1, 100_000, 3):
                row = connection.execute("SELECT repeat(%s, %s)", [str(number), size]).fetchone()
                if row != (str(number) * size,):
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_messages_are_followed_however_the_stream_is_cut() -> None:
    """The state of a session must not depend on how the kernel splits what the server sends."""
    stream = b"C" + (13).to_bytes(4, "big") + b"SELECT 1\0" + b"1" + (4).to_bytes(4, "big")
    stream += b"Z" + (5).to_bytes(4, "big") + b"T" + b"X" + (4).to_bytes(4, "big")
    expected = [(ord("C"), ord("S")), (ord("1"), 0), (ord("Z"), ord("T")), (ord("X"), 0)]
    for cut in range(1, len(stream)):
        for second in range(cut, len(stream) + 1):
            frames = Frames()
            parts = (stream[:cut], stream[cut:second], stream[second:])
            seen = [(kind, first) for part in parts for kind, first, _ in frames.feed(part)]
            assert seen == expected, (cut, second)
            assert frames.whole
