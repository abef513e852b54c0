"""The embedded servers survive what happens to them between two starts."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from ops.accounts import choose_accounts
from ops.embedded.folders import socket_folder
from ops.embedded.ports import is_free, remembered
from tests.conftest import Eventually

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def pair(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the pair in a folder; yields its process and its addresses."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.embedded.pair", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 60)
        assert readable, "the pair is not ready within 60 s"
        yield process, json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)


def test_all_six_addresses_work(tmp_path: Path) -> None:
    with pair(tmp_path / "pair") as (_, known):
        for name in ("database_url", "database_url_tcp"):
            with psycopg.connect(known[name]) as connection:
                row = connection.execute("SELECT current_user, version()").fetchone()
                assert row is not None
                assert row[0] == "switchyard"
        assert redis.Redis.from_url(known["redis_url"]).ping()
        assert redis.Redis.from_url(known["redis_url_tcp"]).ping()
        assert redis.Redis.from_url(known["broker_url_tcp"]).ping()
    assert not [path for path in (tmp_path / "pair").rglob("*") if path.is_socket()]


def test_our_role_is_no_superuser_and_may_make_test_databases(tmp_path: Path) -> None:
    with pair(tmp_path / "pair") as (_, known), psycopg.connect(known["database_url"]) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert row == (False, True)
        settings = connection.execute(
            "SELECT current_setting('server_encoding'), datlocale, datlocprovider"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert settings == ("UTF8", "C.UTF-8", "b")


def test_the_pair_ends_when_its_starter_is_killed(tmp_path: Path, eventually: Eventually) -> None:
    with pair(tmp_path / "pair") as (process, known):
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        port = psycopg.conninfo.conninfo_to_dict(known["database_url_tcp"])["port"]
        eventually(lambda: is_free(int(str(port))), seconds=20)
        valkey = int(known["redis_url_tcp"].rpartition(":")[2].partition("/")[0])
        eventually(lambda: is_free(valkey), seconds=20)


def test_a_port_is_kept_until_somebody_takes_it(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = remembered(memory, "postgres")
    assert remembered(memory, "postgres") == first
    with socket.create_server(("127.0.0.1", first)):
        second = remembered(memory, "postgres")
    assert second != first
    assert remembered(memory, "postgres") == second


def test_sockets_of_a_long_path_go_to_a_short_folder_that_is_found_again(tmp_path: Path) -> None:
    account = choose_accounts().database
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    short = socket_folder(deep / "sockets", account)
    try:
        assert len(str(short)) < 60
        assert short.stat().st_uid == account.uid
        assert socket_folder(deep / "sockets", account) == short
    finally:
        short.rmdir()


@pytest.mark.parametrize("content", ["", "[]", '{"postgres": "x"}', '{"postgres": 80}'])
def test_a_broken_memory_of_ports_is_forgotten(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text(content)
    assert remembered(memory, "postgres") > 1023
