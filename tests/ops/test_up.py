"""`switchyard up` as a user meets it: real processes, a real stop, and real kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import redis

from ops.up.session import answers_at
from tests.conftest import Eventually
from tests.e2e.platforms import ROOT, Platform, command_line, temporary_platform

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def mine() -> Iterator[Platform]:
    """A platform of this module's own, because these tests stop and kill it."""
    # Only its owner may enter it, as with every temporary clone: root's accounts must get in.
    with temporary_platform("up", first_start=True) as running:
        yield running


def alive(pids: list[int]) -> list[str]:
    """Return the command lines of those that still run."""
    return [line for pid in pids if (line := command_line(pid))]


def scheduled_task(client: httpx2.Client) -> str:
    """Submit a task that waits for tomorrow, and return its id."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    answer = client.post(
        "tasks",
        json={"type": "test.dummy", "params": {}, "scheduled_for": tomorrow.isoformat()},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_credentials_are_complete_and_private(mine: Platform) -> None:
    path = mine.state / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    known = json.loads(path.read_text())
    assert list(known) == [
        *("url", "tenant", "token", "operator_token", "user", "password"),
        *("database_url", "broker_url"),
    ]
    assert known["tenant"] == "demo"
    assert known["token"] != known["operator_token"]
    with psycopg.connect(known["database_url"]) as connection:
        row = connection.execute("SELECT count(*) FROM django_migrations").fetchone()
        assert row is not None
        assert row[0] > 10
    assert redis.Redis.from_url(known["broker_url"]).ping()
    with mine.client() as client:
        assert client.get("tasks").status_code == 200


def test_servers_refuse_whoever_has_no_password(mine: Platform) -> None:
    known = mine.credentials
    host = known["database_url"].rpartition("@")[2]
    with pytest.raises(psycopg.OperationalError, match=r"no password|authentication failed"):
        psycopg.connect(f"postgresql://switchyard@{host}")
    address = known["broker_url"].rpartition("@")[2]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(f"redis://{address}").ping()


def test_a_second_up_says_who_runs_and_ends(mine: Platform) -> None:
    done = mine.up("--no-welcome", seconds=30)
    assert done.returncode == 1
    assert f"process {mine.supervisor}" in done.stdout
    assert mine.url in done.stdout


@pytest.mark.parametrize("name", ["web", "dispatcher", "beat", "system", "pools", "normal"])
def test_a_killed_component_comes_back(mine: Platform, name: str, eventually: Eventually) -> None:
    eventually(lambda: mine.pid(name), seconds=60)
    old = mine.signal(name, signal.SIGKILL)
    assert mine.wait_for_another(name, old, seconds=60) != old
    eventually(lambda: answers_at(mine.url), seconds=60)


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_killed_server_comes_back_with_its_data(
    mine: Platform, name: str, eventually: Eventually
) -> None:
    broker = redis.Redis.from_url(mine.credentials["broker_url"])
    broker.set("kept", "yes")
    with mine.client() as client:
        task = scheduled_task(client)
        # An append-only file is written at least once a second.
        eventually(lambda: _synced(broker), seconds=5)
        old = mine.signal(name, signal.SIGKILL)
        mine.wait_for_another(name, old, seconds=30)
        eventually(lambda: answers_at(mine.url), seconds=60)
        # Connections that the web process had open are found broken one by one.
        eventually(lambda: client.get(f"tasks/{task}").status_code == 200, seconds=30)
        assert client.get(f"tasks/{task}").json()["status"] == "scheduled"
    assert redis.Redis.from_url(mine.credentials["broker_url"]).get("kept") == b"yes"


def _synced(broker: redis.Redis) -> bool:
    info = broker.info("persistence")
    return info["aof_pending_bio_fsync"] == 0 and info["aof_buffer_length"] == 0


def test_a_component_that_hangs_is_killed(mine: Platform, eventually: Eventually) -> None:
    eventually(lambda: mine.pid("batch"), seconds=60)
    old = mine.pid("batch")
    heartbeat = mine.state / "service" / "workers" / "batch-1"
    eventually(lambda: heartbeat.exists(), seconds=60)
    os.kill(old, signal.SIGSTOP)
    # Told by its heartbeat; a worker that has only just started is given more time.
    assert mine.wait_for_another("batch", old, seconds=75) != old


def test_kill_9_of_up_leaves_nothing_and_the_next_up_recovers(
    mine: Platform, eventually: Eventually
) -> None:
    before = mine.credentials
    with mine.client() as client:
        task = scheduled_task(client)
    everything = mine.processes()
    assert len(everything) > 10
    os.kill(mine.supervisor, signal.SIGKILL)
    eventually(lambda: not alive(everything), seconds=30)
    mine.start()
    assert mine.credentials["token"] == before["token"]
    assert mine.credentials["password"] == before["password"]
    with mine.client() as client:
        assert client.get(f"tasks/{task}").json()["status"] == "scheduled"


def test_kill_9_of_up_and_at_once_another_up(mine: Platform) -> None:
    os.kill(mine.supervisor, signal.SIGKILL)
    mine.start()
    assert answers_at(mine.url)


def test_stop_leaves_nothing_on_the_machine_and_data_survive(
    mine: Platform, eventually: Eventually
) -> None:
    eventually(lambda: bool(mine.pid("normal")), seconds=30)
    # Its folder of shared memory stays behind.
    mine.wait_for_another("normal", mine.signal("normal"))
    eventually(lambda: any((mine.state / "tmp").iterdir()))
    with mine.client() as client:
        task = scheduled_task(client)
    everything = mine.processes()
    before = mine.credentials
    mine.stop()
    assert alive(everything) == []
    left = [path for path in mine.state.rglob("*") if path.is_socket()]
    assert left == []
    assert not (mine.state / "tmp").exists()
    assert not list((mine.state / "settings").iterdir())
    again = mine.up("--stop", seconds=30)
    assert again.returncode == 0
    assert "nothing runs" in again.stdout
    mine.start()
    assert mine.credentials["token"] == before["token"]
    with mine.client() as client:
        assert client.get(f"tasks/{task}").json()["status"] == "scheduled"


def told(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return what `up --json` printed: one object a line, and nothing else."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_programs_are_told_one_object_a_line(mine: Platform) -> None:
    second = mine.up("--json", seconds=30)
    (refused,) = told(second)
    assert (second.returncode, refused["kind"]) == (1, "error")
    assert mine.url in refused["text"]
    stopped = mine.up("--stop", "--json", seconds=120)
    assert stopped.returncode == 0
    assert [each["kind"] for each in told(stopped)] == ["step", "stopped"]
    idle = mine.up("--stop", "--json", seconds=30)
    (nothing,) = told(idle)
    assert (idle.returncode, nothing["kind"]) == (0, "stopped")
    assert "nothing runs" in nothing["text"]
    started = mine.up("--detach", "--port", "0", "--json")
    assert started.returncode == 0
    *steps, ready = told(started)
    assert {each["kind"] for each in steps} == {"step"}
    assert all(each["text"] and each["seconds"] >= 0 for each in steps)
    mine.credentials = json.loads((mine.state / "credentials.json").read_text())
    assert ready.pop("seconds") >= steps[-1]["seconds"]
    assert ready == {
        "kind": "ready",
        **{name: mine.credentials[name] for name in ("url", "tenant", "user", "password")},
        "credentials": str(mine.state / "credentials.json"),
    }
    assert answers_at(ready["url"])


def test_a_taken_port_is_told_in_one_sentence(tmp_path: Path, mine: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = Platform(tmp_path / "state", mine.environment)
        done = other.up("--no-welcome", "--port", str(port), seconds=60)
    assert done.returncode == 1
    assert f"port {port}" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_component_that_cannot_start_is_told_with_its_log(tmp_path: Path, mine: Platform) -> None:
    broken = Platform(tmp_path / "state", mine.environment | {"SWITCHYARD_LEASE": "often"})
    done = broken.up("--no-welcome", "--port", "0", seconds=120)
    assert done.returncode == 1
    assert "SWITCHYARD_LEASE" in done.stdout
    assert "Traceback" not in done.stdout
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_socket()]


def test_ctrl_c_while_starting_leaves_nothing(
    tmp_path: Path, mine: Platform, eventually: Eventually
) -> None:
    state = tmp_path / "state"
    starting = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "up", "--state", str(state), "--port", "0"],
        env=mine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    eventually(lambda: (state / "logs" / "migrate.log").exists(), seconds=60)
    starting.send_signal(signal.SIGINT)
    told, _ = starting.communicate(timeout=60)
    assert "Traceback" not in told
    assert starting.returncode == 1
    assert not [path for path in state.rglob("*") if path.is_socket()]
