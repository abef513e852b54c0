"""The command against the whole platform: streams, exit codes, detaching, a restart of web."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, environment, printing
from tests.e2e.platforms import Platform

__all__ = ["environment"]

Switchyard = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def switchyard(environment: dict[str, str], tmp_path: Path) -> Switchyard:
    """Run the command to its end."""

    def run(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *argv],
            env={**environment, **more},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )

    return run


def test_a_restart_of_web_in_the_middle_loses_and_repeats_no_line(
    platform: Platform, environment: dict[str, str]
) -> None:
    argv = ("run", "shell.command", "--queue", "critical", "--", "sh", "-c", printing(80))
    with subprocess.Popen(
        [COMMAND, *argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # Both pipes are read at once: a full one would hold the command up.
        remarks: list[str] = []
        reader = threading.Thread(target=lambda: remarks.extend(process.stderr))  # type: ignore[arg-type]
        reader.start()
        numbers = []
        for line in process.stdout:
            numbers.append(int(line.split()[0]))
            if len(numbers) == 10:
                platform.wait_for_another("web", platform.signal("web"))
        reader.join()
    assert numbers == list(range(80))
    assert process.returncode == 0
    assert any("reconnecting" in remark for remark in remarks)


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 3", 4)])
def test_the_exit_code_says_how_the_command_ended(
    switchyard: Switchyard, script: str, code: int
) -> None:
    for mode in ("--follow", "--wait"):
        done = switchyard("run", "shell.command", "--queue", "critical", mode, "--", "sh", "-c", script)
        assert done.returncode == code, done.stderr


def test_stdout_and_stderr_are_kept_apart(switchyard: Switchyard) -> None:
    done = switchyard("run", "shell.command", "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr


def test_detach_prints_the_id_alone_and_wait_and_cancel_tell_by_their_code(
    switchyard: Switchyard,
) -> None:
    done = switchyard("run", "shell.command", "--detach", "--", "sleep", "60")
    name = done.stdout.strip()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")
    assert len(name) == 36
    assert switchyard("tasks", "wait", name, "--timeout", "0.5").returncode == 8
    assert switchyard("tasks", "cancel", name, "--reason", "test").returncode == 0
    assert switchyard("tasks", "wait", name, "--timeout", "30").returncode == 16
    assert switchyard("tasks", "logs", name, "--follow").returncode == 16
    again = switchyard("tasks", "cancel", name)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


def test_a_wrong_command_line_exits_2_and_submits_nothing(switchyard: Switchyard) -> None:
    assert switchyard("run", "shell.command", "--wait", "--detach", "--", "true").returncode == 2
    assert switchyard("run").returncode == 2


def test_a_refused_submit_names_the_place_and_the_request(switchyard: Switchyard) -> None:
    done = switchyard("run", "shell.command", "-p", "workdir=7", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "/params/workdir" in done.stderr
    assert "(request " in done.stderr


def test_json_is_the_live_interface_line_by_line(switchyard: Switchyard) -> None:
    done = switchyard("run", "shell.command", "--json", "--", "echo", "hello")
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert frames[0]["kind"] == "snapshot"
    assert frames[-1] | {"seq": 0} == {"kind": "end", "status": "completed", "seq": 0}
    numbers = [frame["seq"] for frame in frames[1:-1]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_log_can_be_read_again_afterwards(switchyard: Switchyard) -> None:
    name = switchyard("run", "shell.command", "--detach", "--", "seq", "500").stdout.strip()
    assert switchyard("tasks", "wait", name).returncode == 0
    wanted = [str(number) for number in range(1, 501)]
    assert switchyard("tasks", "logs", name).stdout.splitlines() == wanted
    assert switchyard("tasks", "logs", name, "--follow").stdout.splitlines() == wanted


def test_status_is_healthy_for_an_operator(platform: Platform, switchyard: Switchyard) -> None:
    operator = str(platform.credentials["operator_token"])
    done = switchyard("status", SWITCHYARD_TOKEN=operator)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dispatcher" in done.stdout
