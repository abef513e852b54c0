"""The main job, end to end: submit, dispatch, sandbox, output, end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
import pytest

from tests.e2e.platforms import POOLS, ROOT, SHORT_TIMES, Platform
from tests.e2e.work import Work


@pytest.mark.parametrize("steps", [0, 2])
def test_a_task_is_stored_run_and_ended(work: Work, steps: int) -> None:
    # A handler that tells of no step has done everything as well when it has ended.
    params = {"seconds": 0.2, "steps": steps, "stdout": "hello", "result": {"answer": 42}}
    task = work.submit(params=params, labels={"pr": "1"})
    assert task["status"] == "queued"
    assert task["created_at"]
    assert task["started_at"] is None
    done = work.end_of(task)
    assert (done["status"], done["result"], done["progress"]["percent"]) == (
        "completed",
        {"answer": 42},
        100,
    )
    assert done["created_at"] < done["started_at"] < done["finished_at"]
    assert (done["attempt"], done["error"]) == (1, None)
    (run,) = done["runs"]
    assert (run["attempt"], run["status"], run["result"]) == (1, "completed", {"answer": 42})
    assert run["started_at"] < run["finished_at"]
    assert (run["progress"]["percent"], run["error"]) == (100, None)
    assert (run["exit_code"], run["signal"]) == (0, None)
    assert run["log"] == {"bytes": len("hello\n"), "lines": 1, "truncated": False}
    assert run["resources"]["wall_seconds"] >= 0.2
    assert run["resources"]["cpu_seconds"] > 0
    assert run["resources"]["max_rss_bytes"] > 0
    work.check_history(task)


def test_sessions_that_ended_while_they_waited_for_work_cost_no_task_anything(
    work: Work, platform: Platform
) -> None:
    """Idle children are connected already; a restart of PostgreSQL ends what they hold."""
    work.end_of(work.submit(params={}))
    with psycopg.connect(str(platform.credentials["database_url"]), autocommit=True) as server:
        ended = server.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'switchyard' AND state = 'idle'"
        ).fetchone()
        assert ended is not None
        assert ended[0] > 0
    began = time.monotonic()
    tasks = [work.submit(queue=queue, params={}) for queue in POOLS]
    done = [work.end_of(task) for task in tasks]
    assert [(task["status"], len(task["runs"])) for task in done] == [("completed", 1)] * len(POOLS)
    assert time.monotonic() - began < int(SHORT_TIMES["SWITCHYARD_DISPATCH_TIMEOUT"])


@pytest.mark.parametrize("queue", ["critical", "normal", "batch"])
def test_each_queue_has_workers_of_its_own(work: Work, queue: str) -> None:
    done = work.end_of(work.submit(queue=queue, params={}))
    assert (done["status"], done["queue"]) == ("completed", queue)


def test_stdout_and_stderr_are_kept_apart_and_in_order(work: Work) -> None:
    script = "for n in 1 2 3; do echo out $n; echo err $n >&2; sleep 0.2; done"
    task = work.submit("shell.command", params={"command": script})
    assert work.end_of(task)["status"] == "completed"
    lines = work.lines(task)
    assert [line["n"] for line in lines] == list(range(1, 7))
    assert [line["text"] for line in lines if line["stream"] == "stdout"] == ["out 1", "out 2", "out 3"]
    assert work.texts(task, stream="stderr") == ["err 1", "err 2", "err 3"]
    plain = work.http.get(f"tasks/{task['id']}/log", headers={"Accept": "text/plain"})
    assert plain.headers["content-type"].startswith("text/plain")
    assert "out 3" in plain.text


def test_a_command_that_fails_says_its_exit_code(work: Work) -> None:
    done = work.end_of(work.shell("sh", "-c", "echo nope >&2; exit 3"))
    assert (done["status"], done["error"]["code"]) == ("failed", "exit_code")
    assert done["runs"][0]["exit_code"] == 3


def test_a_command_that_does_not_exist_says_so(work: Work) -> None:
    done = work.end_of(work.shell("no-such-program"))
    assert (done["status"], done["error"]["code"]) == ("failed", "command_not_found")


def test_a_crash_names_its_signal_and_is_no_loss(work: Work) -> None:
    done = work.end_of(work.submit(params={"signal": 11}))
    assert (done["status"], done["error"]["code"]) == ("failed", "signal")
    assert done["counts"]["losses"] == 0
    assert len(done["runs"]) == 1


def test_failing_attempts_are_tried_again_with_their_output_kept_apart(work: Work) -> None:
    task = work.submit(
        params={"fail_times": 2, "stdout": "hello"},
        max_retries=3,
        retry={"delay": 0.1, "factor": 1, "jitter": 0},
    )
    done = work.end_of(task)
    assert (done["status"], done["counts"]["failures"], len(done["runs"])) == ("completed", 2, 3)
    assert [run["status"] for run in done["runs"]] == ["failed", "failed", "completed"]
    for attempt in (1, 2, 3):
        assert work.texts(task, run=attempt, stream="stdout") == ["hello"]
        # What it says of itself: "failed as told, attempt N".
        told = "".join(work.texts(task, run=attempt, stream="stderr"))
        assert ("Traceback" in told) == (attempt < 3)
        assert [f"attempt {each}" in told for each in (1, 2)] == [attempt == 1, attempt == 2]


def test_a_known_error_keeps_its_code_and_an_unknown_one_its_class(work: Work) -> None:
    known = work.end_of(
        work.submit(params={"fail": "no space", "error_code": "quota_full"}, max_retries=0)
    )
    assert known["error"] == {"code": "quota_full", "message": "no space"}
    unknown = work.end_of(work.submit(params={"fail": "oops"}, max_retries=0))
    assert (unknown["error"]["code"], unknown["error"]["type"]) == ("handler_error", "RuntimeError")


def test_a_time_limit_ends_a_handler_that_ignores_sigterm(work: Work) -> None:
    task = work.submit(
        params={"seconds": 60, "ignore_sigterm": True, "ignore_cancel": True},
        time_limit=1,
        max_retries=0,
    )
    began = time.monotonic()
    done = work.end_of(task)
    assert (done["status"], done["status_reason"]) == ("failed", "timed_out")
    assert done["runs"][0]["status"] == "timed_out"
    assert time.monotonic() - began < 12


def test_a_running_task_that_is_cancelled_stops(work: Work) -> None:
    task = work.submit(params={"seconds": 60, "steps": 600})
    work.until(task, "running")
    first = work.post(f"tasks/{task['id']}/cancel", reason="enough")
    second = work.post(f"tasks/{task['id']}/cancel")
    assert (first["changed"], second["changed"]) == (True, False)
    done = work.end_of(task, seconds=15)
    assert (done["status"], done["cancel_requested"]["reason"]) == ("cancelled", "enough")
    assert done["cancel_requested"]["at"] <= done["finished_at"]
    work.post(f"tasks/{task['id']}/cancel", expect=409)


def test_a_cancelled_command_takes_its_children_with_it(work: Work) -> None:
    mark = f"switchyard-{os.getpid()}-{time.monotonic_ns()}"
    task = work.shell("sh", "-c", f"setsid sh -c 'sleep 4242; :' {mark} & sh -c 'sleep 4242; :' {mark}")
    work.until(task, "running")
    work.post(f"tasks/{task['id']}/cancel")
    assert work.end_of(task, seconds=20)["status"] == "cancelled"
    left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if mark in _command_line(pid)]
    assert left == []


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_cancelled_handler_that_succeeds_all_the_same_is_completed(work: Work) -> None:
    params = {"seconds": 1.2, "ignore_cancel": True, "ignore_sigterm": True, "result": {"n": 1}}
    task = work.submit(params=params)
    work.until(task, "running")
    asked = work.post(f"tasks/{task['id']}/cancel", reason="too late")["task"]["cancel_requested"]
    done = work.end_of(task)
    assert (done["status"], done["result"], len(done["runs"])) == ("completed", {"n": 1}, 1)
    assert done["cancel_requested"] == asked
    assert asked["reason"] == "too late"


def test_a_checkpoint_lets_a_later_attempt_go_on(work: Work) -> None:
    task = work.submit(
        params={"seconds": 0.4, "steps": 4, "checkpoint": True, "fail_times": 1},
        retry={"delay": 0, "factor": 1, "jitter": 0},
    )
    done = work.end_of(task)
    assert done["status"] == "completed"
    progress = [
        e["data"]["step"] for e in work.events(task) if e["kind"] == "progress" and e["run"] == 2
    ]
    assert "step 1 of 4" not in progress


def test_output_beyond_its_cap_is_cut_with_a_visible_mark(work: Work) -> None:
    task = work.submit(params={"stdout": "x" * 1000, "repeat": 3000}, limits={"output_mb": 1})
    done = work.end_of(task)
    assert done["runs"][0]["log"]["truncated"]
    assert any("Output cut" in text for text in work.texts(task, stream="system"))


def test_steering_lines_move_progress_and_give_the_result(work: Work) -> None:
    script = "echo '::progress 40 linting'; echo visible; echo '::result {\"errors\": 0}'"
    task = work.submit("shell.command", params={"command": script})
    done = work.end_of(task)
    assert (done["status"], done["result"]) == ("completed", {"errors": 0})
    assert work.texts(task, stream="stdout") == ["visible"]
    assert any(e["kind"] == "progress" and e["data"]["percent"] == 40 for e in work.events(task))


def test_a_checkout_of_this_repository_is_linted_in_its_workspace(work: Work) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no git checkout, so there is nothing to clone")
    task = work.shell(
        "ruff", "check", "--no-cache", "tasks/states.py", params={"source": {"git": f"file://{ROOT}"}}
    )
    done = work.end_of(task)
    assert done["status"] == "completed", work.texts(task)
    assert "All checks passed!" in work.texts(task)


def test_a_source_outside_of_the_allowed_roots_is_refused(work: Work) -> None:
    task = work.shell("true", params={"source": {"git": "file:///etc"}})
    assert work.end_of(task)["error"]["code"] == "source_refused"


def test_two_runs_never_share_a_process_or_a_workspace(work: Work, platform: Platform) -> None:
    script = "pwd; ls -A | wc -l; touch mine; readlink /proc/self/ns/pid"
    tasks = [work.submit("shell.command", params={"command": script}) for _ in range(4)]
    outputs = [work.texts(work.end_of(task), stream="stdout") for task in tasks]
    assert len({output[0] for output in outputs}) == 4
    assert {output[1].strip() for output in outputs} == {"0"}
    runs = [_operators_run(platform, task["id"]) for task in tasks]
    assert len({run["pid"] for run in runs}) == 4
    workspaces = platform.state / "workspaces"
    assert [entry for entry in workspaces.iterdir() if entry.is_dir()] == []


def _operators_run(platform: Platform, task_id: str) -> dict[str, object]:
    with platform.operator() as operator:
        answer = operator.get(f"tenants/{platform.tenant}/tasks/{task_id}")
    run: dict[str, object] = answer.json()["runs"][0]
    return run


def test_a_task_with_heartbeats_alone_is_not_declared_dead(work: Work) -> None:
    done = work.end_of(work.submit(params={"seconds": 8}))
    assert (done["status"], done["counts"]["losses"], done["attempt"]) == ("completed", 0, 1)
