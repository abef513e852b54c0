"""`test.dummy` does exactly what it is told; run in the lightest sandbox."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from workers.sandbox import Exit, Launch, Level, become_subreaper, make_workspace, spawn, wipe_workspace


def run(params: dict[str, Any], **job: Any) -> tuple[Exit, list[dict[str, Any]], str, str]:
    become_subreaper()
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder), "run")
        given = {"handler": "workers.handlers.dummy:behave", "params": params, "attempt": 1, **job}
        with spawn(Launch(level=Level.PROCESS, workspace=workspace, job=given)) as sandboxed:
            ending = sandboxed.wait(20)
            texts = []
            for stream in (sandboxed.messages, sandboxed.stdout, sandboxed.stderr):
                os.set_blocking(stream, True)
                with open(stream, closefd=False) as file:
                    texts.append(file.read())
        wipe_workspace(workspace)
    return ending, [json.loads(line) for line in texts[0].splitlines()], texts[1], texts[2]


def test_steps_tell_their_progress_and_the_result_comes_back() -> None:
    _, messages, _, _ = run({"seconds": 0.1, "steps": 2, "result": {"a": 1}})
    assert [message.get("percent") for message in messages] == [50.0, 100.0, None]
    assert messages[-1] == {"op": "result", "data": {"a": 1}}


def test_a_later_attempt_goes_on_at_its_checkpoint() -> None:
    params = {"seconds": 0, "steps": 4, "checkpoint": True}
    _, messages, _, _ = run(params, checkpoint={"step": 3}, attempt=2)
    assert [each["step"] for each in messages if each["op"] == "progress"] == ["step 4 of 4"]
    assert {"op": "checkpoint", "data": {"step": 4}} in messages


@pytest.mark.parametrize(("attempt", "fails"), [(1, True), (2, True), (3, False)])
def test_fail_times_fails_the_first_attempts(attempt: int, fails: bool) -> None:
    _, messages, _, _ = run({"fail_times": 2}, attempt=attempt)
    assert (messages[-1]["op"] == "error") is fails


def test_an_error_code_makes_a_known_error() -> None:
    _, (message,), _, _ = run({"fail": "gone", "error_code": "no_org"})
    assert (message["code"], message["message"]) == ("no_org", "gone")


def test_told_to_tell_the_time_it_does_so_before_anything_else() -> None:
    began = time.time_ns()
    _, _, out, _ = run({"tell_time": True, "seconds": 0.2, "stdout": "a"})
    first, second = out.splitlines()
    assert began < int(first) < time.time_ns() - 200_000_000
    assert second == "a"


def test_output_goes_to_both_streams_as_often_as_told() -> None:
    _, _, out, err = run({"stdout": "a", "stderr": "b", "repeat": 3})
    assert (out, err) == ("a\na\na\n", "b\nb\nb\n")


def test_it_ends_by_exit_code_or_signal() -> None:
    assert run({"exit": 9})[0].code == 9
    assert run({"signal": "SIGKILL"})[0].signal == "SIGKILL"
    assert run({"signal": 11})[0].signal == "SIGSEGV"


def test_a_daemon_is_spawned_and_does_not_survive() -> None:
    started = time.monotonic()
    ending, messages, _, _ = run({"spawn_daemon": True})
    assert ending.code == 0
    assert messages[-1]["op"] == "result"
    assert time.monotonic() - started < 5
