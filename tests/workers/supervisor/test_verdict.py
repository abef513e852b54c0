"""What the end of a handler means."""

from __future__ import annotations

from typing import Any

import pytest

from switchyard.protocol import Error
from tasks.outcomes import Outcome
from tasks.states import RunStatus
from workers.sandbox import Exit
from workers.supervisor.verdict import Heard, verdict


def ended(code: int | None = 0, signal: str | None = None, reason: str = "exited") -> Exit:
    return Exit(code, signal, 0.1, 1000, reason, "no room")


def judged(end: Exit, heard: Heard, type: str = "test.dummy", **options: Any) -> Outcome:
    return verdict(
        type,
        options.pop("params", {}),
        end,
        heard,
        time_limit=options.pop("time_limit", 5.0),
        cancel_asked=options.pop("cancel_asked", False),
    )


def test_a_result_is_success() -> None:
    outcome = judged(ended(), Heard(result={"n": 1}, has_result=True))
    assert (outcome.status, outcome.result) == (RunStatus.COMPLETED, {"n": 1})


def test_success_after_a_cancel_is_success() -> None:
    heard = Heard(has_result=True, stopped_for="cancel")
    assert judged(ended(), heard, cancel_asked=True).status is RunStatus.COMPLETED


def test_a_handler_that_was_killed_after_a_cancel_is_cancelled() -> None:
    for why in ("cancel", "kill"):
        heard = Heard(stopped_for=why)
        assert judged(ended(None, "SIGKILL"), heard, cancel_asked=True).status is RunStatus.CANCELLED


def test_an_error_has_its_code_type_and_message() -> None:
    heard = Heard(error=Error("handler_error", "no such file", "FileNotFoundError"))
    outcome = judged(ended(1), heard)
    assert outcome.error == {
        "code": "handler_error",
        "message": "no such file",
        "type": "FileNotFoundError",
    }


def test_a_signal_is_named_and_not_retried() -> None:
    outcome = judged(ended(None, "SIGSEGV"), Heard())
    assert (outcome.status, outcome.signal) == (RunStatus.FAILED, "SIGSEGV")
    assert outcome.likely_again
    assert outcome.error is not None
    assert outcome.error["detail"] == {"signal": "SIGSEGV"}


def test_leaving_without_a_result_is_a_failure() -> None:
    outcome = judged(ended(0), Heard())
    assert outcome.error is not None
    assert outcome.error["code"] == "exit_code"


@pytest.mark.parametrize(("codes", "status"), [([0], RunStatus.FAILED), ([0, 3], RunStatus.COMPLETED)])
def test_a_command_succeeds_with_the_codes_it_names(codes: list[int], status: RunStatus) -> None:
    outcome = judged(ended(3), Heard(), "shell.command", params={"success_codes": codes})
    assert outcome.status is status


def test_the_time_limit_is_named() -> None:
    outcome = judged(ended(None, "SIGKILL"), Heard(stopped_for="time"))
    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error == {
        "code": "timed_out",
        "message": "The run took longer than its limit of 5 s.",
    }


@pytest.mark.parametrize(
    ("why", "code"), [("memory", "memory_limit"), ("workspace", "disk_full"), ("protocol", "protocol")]
)
def test_a_passed_limit_is_named_and_not_retried(why: str, code: str) -> None:
    outcome = judged(ended(None, "SIGKILL"), Heard(stopped_for=why, stop_detail="10 MiB"))
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.likely_again) == (code, True)


@pytest.mark.parametrize("type", ["test.dummy", "shell.command"])
def test_a_handler_that_the_machine_killed_for_want_of_memory_may_be_tried_again(type: str) -> None:
    heard = Heard(hints=frozenset({"oom"}))
    outcome = judged(ended(None, "SIGKILL"), heard, type)
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.likely_again) == ("out_of_memory", False)
    # Somebody else's death explains no other end.
    for other in (judged(ended(None, "SIGSEGV"), heard, type), judged(ended(3), heard, type)):
        assert other.error is not None
        assert other.error["code"] != "out_of_memory"


def test_the_memory_that_the_run_may_use_explains_its_death_before_the_machines() -> None:
    outcome = judged(ended(None, "SIGKILL"), Heard(hints=frozenset({"memory", "oom"})))
    assert outcome.error is not None
    assert outcome.error["code"] == "memory_limit"


@pytest.mark.parametrize(
    ("why", "status"), [("stop", RunStatus.DROPPED), ("preempt", RunStatus.PREEMPTED)]
)
def test_an_interruption_is_not_a_failure(why: str, status: RunStatus) -> None:
    heard = Heard(stopped_for=why, checkpointed=True)
    outcome = judged(ended(None, "SIGTERM"), heard)
    assert (outcome.status, outcome.checkpointed) == (status, True)


def test_a_sandbox_that_cannot_be_built_says_why() -> None:
    outcome = judged(ended(None, None, "sandbox"), Heard())
    assert outcome.error == {"code": "sandbox", "message": "The sandbox could not be built: no room"}
