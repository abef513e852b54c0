"""The other commands: what they print, how they connect, what they say when it goes wrong."""

from __future__ import annotations

import json
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from switchyard.cli.catalogue import COMMANDS
from switchyard.cli.catalogue import Command as Entry
from switchyard.cli.connection import resolve
from tests.switchyard.conftest import COMMAND, Command
from tests.switchyard.contract_server import TOKEN, ContractServer

EVIL = "lint\x1b[2J\x1b]0;title\x07\x9b31m\u202etxt"


@pytest.fixture
def ended(server: ContractServer) -> str:
    """A task that has failed, with output."""
    name = server.task(labels={"pr": EVIL}, queue="critical")
    server.run(name)
    server.lines(name, "plain", "\x1b[31mred\x1b[0m \x1b[2Jand worse")
    server.lines(name, "oops", stream="stderr")
    server.end(
        name,
        "failed",
        status_reason="handler_error",
        error={"code": "exit_code", "message": f"It exited with 1.\n{EVIL}"},
        runs=[{"id": "r", "attempt": 1, "status": "failed", "exit_code": 1}],
        counts={"failures": 1, "losses": 0, "restarts": 0, "preemptions": 2},
    )
    return name


def test_an_empty_list_says_how_to_begin(server: ContractServer, command: Command) -> None:
    done = command("tasks", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No tasks yet. Submit one: switchyard run" in done.stderr
    assert "No task matches" in command("tasks", "list", "--status", "failed").stderr
    assert command("tasks", "list", "--json").stdout == "[]\n"


def test_a_list_is_aligned_text_in_a_pipe(ended: str, command: Command) -> None:
    head, row = command("tasks", "list").stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "TYPE", "QUEUE", "AGE"]
    assert row.split()[:4] == [ended, "failed", "shell.command", "critical"]
    (task,) = json.loads(command("tasks", "list", "--json").stdout)
    assert task["id"] == ended


def test_nothing_from_the_server_can_command_a_terminal(ended: str, command: Command) -> None:
    done = command("tasks", "show", ended)
    assert done.returncode == 0
    assert "\\x1b[2J" in done.stdout
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(done.stdout + done.stderr)


def test_show_tells_status_error_and_runs(ended: str, command: Command) -> None:
    text = command("tasks", "show", ended).stdout
    assert "failed (handler_error)" in text
    assert "exit_code: It exited with 1." in text
    assert "RUN  STATUS" in text
    assert "failures=1 preemptions=2" in text
    assert json.loads(command("tasks", "show", ended, "--json").stdout)["id"] == ended


def test_logs_are_raw_in_a_pipe_and_keep_their_streams(ended: str, command: Command) -> None:
    done = command("tasks", "logs", ended)
    assert done.stdout == "plain\n\x1b[31mred\x1b[0m \x1b[2Jand worse\n"
    assert done.stderr == "oops\n"
    lines = [json.loads(line) for line in command("tasks", "logs", ended, "--json").stdout.splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3]


def test_following_logs_ends_as_the_task_did(ended: str, command: Command) -> None:
    done = command("tasks", "logs", ended, "--follow")
    assert done.returncode == 4
    assert done.stdout.startswith("plain\n")
    assert done.stderr == "oops\n"


def test_events_are_listed_and_followed(ended: str, command: Command) -> None:
    assert len(command("tasks", "events", ended).stdout.splitlines()) == 5
    done = command("tasks", "events", ended, "--follow", "--json", "--after", "3")
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["log", "state", "end"]
    assert done.returncode == 4


def test_wait_and_cancel_of_a_task_that_has_ended(ended: str, command: Command) -> None:
    assert command("tasks", "wait", ended).returncode == 4
    done = command("tasks", "cancel", ended)
    assert done.returncode == 1
    assert "The task has ended" in done.stderr


def test_cancel_says_what_it_did(server: ContractServer, command: Command) -> None:
    name = server.task()
    server.on_cancel = lambda task: server.end(task, "cancelled")
    done = command("tasks", "cancel", name, "--reason", "not needed")
    assert (done.returncode, done.stderr) == (0, f"{name}: cancelled\n")


def test_one_refusal_keeps_no_other_task_from_being_cancelled(
    server: ContractServer, command: Command, ended: str
) -> None:
    waiting = [server.task(), server.task()]
    server.on_cancel = lambda task: server.end(task, "cancelled")
    done = command("tasks", "cancel", "nothing", waiting[0], ended, waiting[1])
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in told] == ["nothing", waiting[0], ended, waiting[1]]
    assert told[0].startswith("nothing: There is no such thing here.")
    assert told[1::2] == [f"{name}: cancelled" for name in waiting]
    assert "The task has ended" in told[2]
    assert {server.tasks[name]["status"] for name in waiting} == {"cancelled"}


def test_several_cancels_as_json_tell_each_and_lose_no_answer(
    server: ContractServer, command: Command, ended: str
) -> None:
    waiting = server.task()
    done = command("tasks", "cancel", ended, waiting, "--json")
    assert done.returncode == 1
    refused, answered = json.loads(done.stdout)
    assert (refused["id"], refused["changed"]) == (ended, False)
    assert (refused["error"]["status"], refused["error"]["code"]) == (409, "task_finished")
    assert (answered["changed"], answered["task"]["id"]) == (True, waiting)
    assert f"{ended}: The task has ended" in done.stderr


def test_a_server_that_is_away_is_asked_for_one_task_only(
    server: ContractServer, command: Command
) -> None:
    done = command("tasks", "cancel", "one", "two", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("one: Cannot reach http://127.0.0.1:9")
    assert second == "two: not asked for."


def test_a_worker_that_has_gone_keeps_no_other_from_being_drained(
    server: ContractServer, command: Command
) -> None:
    server.workers = [
        {"id": f"id-of-{name}", "name": name, "status": state}
        for name, state in (("normal-1", "alive"), ("batch-1", "gone"), ("batch-2", "alive"))
    ]
    done = command("drain", "--all")
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert told[0::2] == ["normal-1 will drain.", "batch-2 will drain."]
    assert told[1].startswith("batch-1: There is no such worker.")
    done = command("drain", "--all", "--json")
    assert done.returncode == 1
    results = json.loads(done.stdout)["results"]
    assert [each["changed"] for each in results] == [True, False, True]
    assert (results[1]["id"], results[1]["error"]["status"]) == ("id-of-batch-1", 404)


def test_an_unknown_id_is_one_sentence_with_the_request(
    server: ContractServer, command: Command
) -> None:
    done = command("tasks", "show", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "There is no such thing here." in done.stderr
    assert "(request req-1)" in done.stderr


def test_no_connection_says_what_to_do(command: Command, environment: dict[str, str]) -> None:
    done = command("tasks", "list", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Cannot reach http://127.0.0.1:9" in done.stderr
    assert "switchyard up" in done.stderr
    del environment["SWITCHYARD_URL"]
    done = command("tasks", "list")
    assert done.returncode == 1
    assert "switchyard login" in done.stderr


def test_a_bug_is_a_sentence_and_a_traceback_only_when_asked_for(command: Command) -> None:
    broken = "import switchyard.cli.catalogue as c; c.overview = lambda: 1 / 0; "
    code = broken + COMMAND[-1]
    for debug, traceback in (("", False), ("1", True)):
        done = subprocess.run(
            [sys.executable, "-c", code, "--help"],
            env={"PYTHONPATH": "platform", "SWITCHYARD_DEBUG": debug},
            capture_output=True,
            text=True,
        )
        assert ("Traceback" in done.stderr) is traceback
        assert done.returncode == 1


def test_tokens_are_made_listed_and_revoked(server: ContractServer, command: Command) -> None:
    assert command("tokens", "create", "ci", "--scope", "tasks:read").stdout == "sy_new\n"
    assert "sy_a" in command("tokens", "list").stdout
    done = command("tokens", "revoke", "t1", "--json")
    assert json.loads(done.stdout) == {"revoked": "t1"}
    assert server.requests[-1][:2] == ("DELETE", "/api/v1/tenants/demo/tokens/t1")


@pytest.mark.parametrize("entry", [entry for entry in COMMANDS if entry.module], ids=lambda e: e.name)
def test_every_command_can_be_called(command: Command, entry: Entry) -> None:
    done = command(entry.name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: switchyard {entry.name}")


# -- connection ----------------------------------------------------------------------------------


def test_login_stores_what_works_readable_by_its_owner_alone(
    command: Command, environment: dict[str, str], server: ContractServer, tmp_path: Path
) -> None:
    url = environment.pop("SWITCHYARD_URL")
    del environment["SWITCHYARD_TOKEN"], environment["SWITCHYARD_TENANT"]
    done = command("login", "--url", url, "--token", "-", stdin=f"{TOKEN}\n")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "config" / "switchyard" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"url": url, "token": TOKEN, "tenant": "demo"}
    assert command("tasks", "list").returncode == 0
    assert command("me").stdout.startswith("server:")
    command("login", "--forget")
    assert not file.exists()


def test_login_refuses_a_token_that_the_server_refuses(command: Command, tmp_path: Path) -> None:
    done = command("login", "--token", "-", stdin="sy_wrong\n", SWITCHYARD_TOKEN="")
    assert (done.returncode, done.stdout) == (2, "")  # no --url and nobody to ask
    done = command("login", "--url", "http://127.0.0.1:9", "--token", "sy_wrong")
    assert done.returncode == 1
    assert not (tmp_path / "config").exists()


def test_a_first_start_in_this_folder_is_found_and_said(
    command: Command, environment: dict[str, str], server: ContractServer, tmp_path: Path
) -> None:
    url = environment.pop("SWITCHYARD_URL")
    del environment["SWITCHYARD_TOKEN"], environment["SWITCHYARD_TENANT"]
    (tmp_path / ".switchyard").mkdir()
    told = {"url": url, "tenant": "demo", "token": TOKEN, "operator_token": "sy_op"}
    (tmp_path / ".switchyard" / "credentials.json").write_text(json.dumps(told))
    done = command("tasks", "list", "--json")
    assert done.stdout == "[]\n"
    assert ".switchyard/credentials.json" in done.stderr
    command("queues")
    assert server.requests[-1][2]["authorization"] == "Bearer sy_op"


def test_a_stored_token_is_never_sent_to_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "switchyard" / "login.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"url": "https://a.example", "token": "sy_a", "tenant": "acme"}))
    monkeypatch.chdir(tmp_path)
    known = {"XDG_CONFIG_HOME": str(tmp_path)}
    there = resolve(environment=known)
    assert (there.url, there.token, there.tenant) == ("https://a.example", "sy_a", "acme")
    elsewhere = resolve("https://b.example", environment=known)
    assert (elsewhere.url, elsewhere.token, elsewhere.tenant) == ("https://b.example", None, None)
    by_hand = resolve(token="sy_mine", environment=known)
    assert (by_hand.url, by_hand.token, by_hand.tenant) == ("https://a.example", "sy_mine", None)


# -- status, up, version ---------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code"), [("healthy", 0), ("degraded", 1), ("down", 2)])
def test_status_tells_by_its_exit_code(
    server: ContractServer, command: Command, state: str, code: int
) -> None:
    component = {"name": "broker", "status": state, "detail": "It says so."}
    server.operator_status = {"status": state, "components": [component]}
    done = command("status")
    assert done.returncode == code
    assert f"is {state}" in done.stdout
    assert "broker" in done.stdout
    assert json.loads(command("status", "--json").stdout)["status"] == state


def test_status_without_an_operators_token_asks_whether_it_is_ready(
    server: ContractServer, command: Command
) -> None:
    assert command("status").returncode == 0
    server.ready = {"status": 503, "detail": "The database does not answer."}
    done = command("status")
    assert done.returncode == 2
    assert "The database does not answer." in done.stdout + done.stderr


def test_status_of_nothing_is_down(command: Command) -> None:
    assert command("status", "--url", "http://127.0.0.1:9").returncode == 2


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/html", "<html><h1>Bad Gateway</h1></html>"),
        ("application/problem+json", '{"status": 500, "detail": "It broke."}'),
    ],
)
def test_a_platform_that_cannot_tell_its_status_is_down(
    server: ContractServer, command: Command, status: int, kind: str, text: str
) -> None:
    server.broken_status = (status, kind, text)
    server.ready = {"status": 503, "detail": "The database does not answer."}
    done = command("status", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["status"] == "down"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("status", [200, 502, 503])
def test_a_proxy_without_a_platform_behind_it_is_down(
    server: ContractServer, command: Command, status: int, as_json: list[str]
) -> None:
    server.everything = (status, "text/html", "<html><h1>Bad Gateway</h1></html>")
    done = command("status", *as_json)
    assert done.returncode == 2
    if as_json:
        told = json.loads(done.stdout)
        assert told["status"] == "down"
        assert server.url in told["detail"]
    else:
        assert f"{server.url} is down" in done.stdout
        assert "not JSON" in done.stderr


def test_up_is_handed_to_the_server(command: Command) -> None:
    done = command("up", "--help")
    assert done.returncode == 0
    assert "--detach" in done.stdout


def test_version_and_help_are_there_at_once(command: Command) -> None:
    assert command("version").stdout.startswith("switchyard ")
    assert "version" in json.loads(command("version", "--json").stdout)
    # Processor time: it says the same on a busy machine.
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert command("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.15


def test_the_overview_loads_neither_typer_nor_rich_nor_the_client() -> None:
    code = (
        "import sys; from switchyard.cli.main import main; main(['--help']); "
        "print([m for m in ('typer', 'rich', 'httpx2', 'switchyard.client') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": "platform"}, capture_output=True, text=True
    )
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "argv", [("--help",), ("run", "--help"), ("tasks", "--help"), ("tasks", "list", "--help")]
)
def test_help_fits_80_columns(command: Command, argv: tuple[str, ...]) -> None:
    done = command(*argv, COLUMNS="80")
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
