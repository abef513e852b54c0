"""`switchyard run` as CI runs it: in a process of its own, with pipes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.switchyard.conftest import COMMAND, Command
from tests.switchyard.contract_server import ContractServer, until


@pytest.fixture
def working(server: ContractServer) -> ContractServer:
    """A server on which every submitted task runs at once: two lines out, one to stderr, the end."""

    def work(name: str) -> None:
        if server.tasks[name]["params"].get("command") == ["hang"]:
            server.run(name)
            server.lines(name, "started")
            return
        server.run(name)
        server.lines(name, "one", "two")
        server.lines(name, "careful", stream="stderr")
        server.say(name, "progress", {"percent": 50, "step": "half"}, 1)
        ends = {"fail": "failed", "cancel": "cancelled", "drop": "dropped"}
        command = server.tasks[name]["params"].get("command", [""])[0]
        server.end(name, ends.get(command, "completed"), result={"exit_code": 0})

    server.on_submit = work
    return server


def test_the_commands_output_is_kept_apart_from_everything_else(
    working: ContractServer, command: Command
) -> None:
    done = command("run", "shell.command", "--queue", "critical", "--", "ruff", "check", ".")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "one\ntwo\n"
    assert "careful\n" in done.stderr
    assert "completed" in done.stderr
    assert working.bodies == [
        {
            "type": "shell.command",
            "queue": "critical",
            "params": {"command": ["ruff", "check", "."]},
        }
    ]


@pytest.mark.parametrize(("what", "code"), [("pass", 0), ("fail", 4), ("cancel", 16), ("drop", 16)])
@pytest.mark.parametrize("mode", ["--follow", "--wait"])
@pytest.mark.usefixtures("working")
def test_the_exit_code_says_how_the_task_ended(
    command: Command, mode: str, what: str, code: int
) -> None:
    assert command("run", "shell.command", mode, "--", what).returncode == code


@pytest.mark.usefixtures("working")
def test_a_wait_that_times_out_says_that_it_still_runs(command: Command) -> None:
    done = command("run", "shell.command", "--wait", "--timeout", "0.3", "--", "hang")
    assert done.returncode == 8
    assert done.stdout.endswith(" running\n")
    assert "tasks logs" in done.stderr


def test_detach_prints_the_id_alone(working: ContractServer, command: Command) -> None:
    done = command("run", "shell.command", "--detach", "--", "true")
    assert done.stdout == f"{next(iter(working.tasks))}\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "argv",
    [
        ("run",),
        ("run", "x", "--nope"),
        ("run", "x", "--wait", "--detach"),
        ("run", "x", "--timeout", "3"),
        ("run", "x", "-p", "nothing"),
        ("run", "x", "-p", "a=1", "-p", "a.b=2"),
        ("run", "x", "-p", "a..b=2"),
        ("run", "x", "--params", "missing.json"),
        ("run", "x", "--at", "tomorrow"),
        ("run", "x", "--priority", "high"),
        ("tasks",),
        ("tasks", "lst"),
        ("nonsense",),
        (),
    ],
)
def test_a_wrong_command_line_exits_2_with_a_sentence(
    server: ContractServer, command: Command, argv: tuple[str, ...]
) -> None:
    done = command(*argv)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr or "Usage" in done.stdout
    assert server.tasks == {}


def test_params_come_from_options_files_and_stdin(
    working: ContractServer, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text('{"workdir": ".", "env": {"A": "1"}}')
    command(
        *("run", "shell.command", "--params", "params.json", "-p", "env.B=2", "-p", "depth=3"),
        *("-p", "note=plain text", "-p", "nan=NaN", "-p", "list=[1]", "--detach"),
        *("--source", "https://git.example/a.git@feature/x", "--label", "pr=4711"),
        *("--secret", "GITHUB_TOKEN", "--no-idempotent", "--preemptible"),
        *("--max-retries", "0", "--", "make"),
    )
    command("run", "other", "--params", "-", "--detach", stdin='{"a": 1}')
    first, second = working.bodies
    assert first == {
        "type": "shell.command",
        "params": {
            "workdir": ".",
            "env": {"A": "1", "B": 2},
            "depth": 3,
            "note": "plain text",
            "nan": "NaN",
            "list": [1],
            "command": ["make"],
            "source": {"git": "https://git.example/a.git", "ref": "feature/x"},
        },
        "labels": {"pr": "4711"},
        "secrets": ["GITHUB_TOKEN"],
        "idempotent": False,
        "preemptible": True,
        "max_retries": 0,
    }
    assert second == {"type": "other", "params": {"a": 1}}


def test_the_same_idempotency_key_is_the_same_task(working: ContractServer, command: Command) -> None:
    argv = ("run", "shell.command", "--detach", "--idempotency-key", "build-7", "--", "true")
    assert command(*argv).stdout == command(*argv).stdout
    assert len(working.tasks) == 1


@pytest.mark.usefixtures("working")
def test_json_follows_as_frames_one_per_line(command: Command) -> None:
    done = command("run", "shell.command", "--json", "--", "fail")
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    assert [frame["kind"] for frame in frames] == [
        "snapshot",
        *("state", "state", "log", "log", "progress", "state"),
        "end",
    ]
    assert frames[-1]["status"] == "failed"
    assert done.stderr == ""


@pytest.mark.usefixtures("working")
def test_json_waits_and_detaches_with_the_task(command: Command) -> None:
    for mode in ("--wait", "--detach"):
        done = command("run", "shell.command", "--json", mode, "--", "true")
        assert json.loads(done.stdout)["type"] == "shell.command"
        assert done.stderr == ""


def test_a_refused_submit_says_why_and_which_request(server: ContractServer, command: Command) -> None:
    done = command("run", "no.such")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no task type 'no.such'" in done.stderr
    assert "(request req-1)" in done.stderr
    assert "/type: unknown" in done.stderr


def test_a_dry_run_stores_nothing(server: ContractServer, command: Command) -> None:
    done = command("run", "shell.command", "--dry-run", "--", "true")
    assert (done.returncode, done.stdout) == (0, "would: start\n")
    assert server.tasks == {}


def test_lines_come_through_a_pipe_as_they_are_printed(
    server: ContractServer, environment: dict[str, str]
) -> None:
    server.on_submit = server.run
    with following(environment) as process:
        until(lambda: server.tasks, "submitted")
        (name,) = server.tasks
        for number in range(5):
            server.lines(name, f"line {number}")
            before = time.monotonic()
            assert process.stdout is not None
            assert process.stdout.readline() == f"line {number}\n"
            if number:  # the first one also waits for the process to start
                assert time.monotonic() - before < 0.5
        server.end(name)
        assert process.wait(10) == 0


def test_following_survives_a_restart_without_losing_or_repeating_a_line(
    server: ContractServer, environment: dict[str, str]
) -> None:
    server.on_submit = server.run
    with following(environment) as process:
        until(lambda: server.streams, "following")
        (name,) = server.tasks

        def work() -> None:
            for number in range(50):
                if number == 15:
                    server.stop()
                if number == 35:
                    server.start()
                server.lines(name, f"line {number}")
                time.sleep(0.01)
            server.end(name)

        worker = threading.Thread(target=work)
        worker.start()
        out, err = process.communicate(timeout=30)
        worker.join()
    assert out.splitlines() == [f"line {number}" for number in range(50)]
    assert process.returncode == 0
    assert "reconnecting" in err


def test_ctrl_c_without_a_terminal_leaves_the_task_running(
    server: ContractServer, environment: dict[str, str]
) -> None:
    server.on_submit = server.run
    with following(environment) as process:
        until(lambda: server.streams, "following")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 8
    assert f"switchyard tasks logs {next(iter(server.tasks))} --follow" in err
    assert not any(path.endswith("/cancel") for _, path, _ in server.requests)


def test_a_reader_that_goes_away_is_no_traceback(
    server: ContractServer, environment: dict[str, str]
) -> None:
    server.on_submit = server.run
    with following(environment) as process:
        until(lambda: server.streams, "following")
        (name,) = server.tasks
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        server.lines(name, "nobody reads this")
        assert process.wait(10) == 1
        assert "Traceback" not in process.stderr.read()


def following(environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start `switchyard run … --follow` with pipes."""
    return subprocess.Popen(
        [*COMMAND, "run", "shell.command", "--follow", "--", "true"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
