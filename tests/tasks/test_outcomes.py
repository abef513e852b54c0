"""What becomes of a task when a run ends: the rules alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.outcomes import Outcome, TaskFacts, backoff, decide
from tasks.states import TRANSITIONS, Reason, RunStatus, Status

POLICY = {"delay": 5.0, "factor": 2.0, "max_delay": 600.0, "jitter": 0.0}
FACTS = TaskFacts(
    cancel_requested=False,
    idempotent=True,
    max_retries=3,
    retry=POLICY,
    failures=0,
    losses=0,
    crashes=0,
)
FAILED = Outcome(RunStatus.FAILED, error={"code": "broken", "message": "no"})
LOST = Outcome(RunStatus.LOST)


def test_three_retries_are_four_runs() -> None:
    statuses = [decide(FAILED, replace(FACTS, failures=n)).status for n in range(4)]
    assert statuses == ["retry_wait", "retry_wait", "retry_wait", "failed"]
    assert decide(FAILED, replace(FACTS, failures=3)).reason == Reason.MAX_RETRIES_EXCEEDED


def test_waiting_grows_by_the_factor_up_to_its_maximum() -> None:
    assert [backoff(n, POLICY) for n in (0, 1, 2, 20)] == [5, 10, 20, 600]


def test_jitter_spreads_by_its_share() -> None:
    waits = {backoff(0, {**POLICY, "jitter": 0.1}) for _ in range(200)}
    assert len(waits) > 100
    assert min(waits) >= 4.5
    assert max(waits) <= 5.5


def test_an_error_may_forbid_its_retry() -> None:
    decision = decide(replace(FAILED, retry=False), FACTS)
    assert (decision.status, decision.reason) == (Status.FAILED, Reason.HANDLER_ERROR)


@pytest.mark.parametrize(
    ("policy", "retry", "status"),
    [
        ({}, None, Status.FAILED),
        ({"retry_on": ["broken"]}, None, Status.RETRY_WAIT),
        ({"retry_on": ["other"]}, None, Status.FAILED),
        ({"retry_on": ["broken"], "never_on": ["broken"]}, None, Status.FAILED),
        ({"retry_on": ["broken"]}, False, Status.FAILED),
        ({}, True, Status.RETRY_WAIT),
    ],
)
def test_what_would_most_likely_happen_again_is_tried_again_only_where_it_is_named(
    policy: dict[str, list[str]], retry: bool | None, status: Status
) -> None:
    outcome = replace(FAILED, likely_again=True, retry=retry)
    assert decide(outcome, replace(FACTS, retry={**POLICY, **policy})).status == status


def test_a_lost_idempotent_task_is_queued_at_once_and_not_charged_a_failure() -> None:
    decision = decide(LOST, FACTS)
    assert (decision.status, decision.counts, decision.delay) == (Status.QUEUED, ("losses",), 0)


def test_a_lost_task_that_is_not_idempotent_never_starts_again_by_itself() -> None:
    decision = decide(LOST, replace(FACTS, idempotent=False, max_retries=9))
    assert (decision.status, decision.reason) == (Status.FAILED, Reason.LOST)


def test_the_third_loss_is_the_last() -> None:
    assert decide(LOST, replace(FACTS, losses=2)).status == Status.FAILED


def test_a_run_that_takes_its_supervisor_down_twice_is_poison() -> None:
    crash = replace(LOST, crashed=True)
    assert decide(crash, FACTS).status == Status.QUEUED
    second = decide(crash, replace(FACTS, crashes=1, losses=1))
    assert (second.status, second.reason) == (Status.FAILED, Reason.POISON)


def test_a_planned_stop_is_charged_to_neither_retries_nor_failures() -> None:
    decision = decide(Outcome(RunStatus.DROPPED), replace(FACTS, failures=3))
    assert (decision.status, decision.counts) == (Status.QUEUED, ("restarts",))


def test_a_planned_stop_of_what_cannot_run_again_is_an_interruption() -> None:
    facts = replace(FACTS, idempotent=False)
    assert decide(Outcome(RunStatus.DROPPED), facts).reason == Reason.INTERRUPTED
    checkpointed = Outcome(RunStatus.DROPPED, checkpointed=True)
    assert decide(checkpointed, facts).status == Status.QUEUED


def test_a_type_may_say_drop() -> None:
    dropped = decide(Outcome(RunStatus.DROPPED), replace(FACTS, on_shutdown="drop"))
    lost = decide(LOST, replace(FACTS, on_loss="drop"))
    assert {dropped.status, lost.status} == {Status.DROPPED}


@given(
    status=st.sampled_from([s for s in RunStatus if s not in (RunStatus.RUNNING, RunStatus.COMPLETED)]),
    retry=st.sampled_from([None, True, False]),
    crashed=st.booleans(),
    checkpointed=st.booleans(),
    idempotent=st.booleans(),
    counts=st.tuples(*[st.integers(0, 5)] * 4),
    on_loss=st.sampled_from(["retry", "fail", "drop"]),
)
def test_after_a_cancel_nothing_runs_again(
    status: RunStatus,
    retry: bool | None,
    crashed: bool,
    checkpointed: bool,
    idempotent: bool,
    counts: tuple[int, int, int, int],
    on_loss: str,
) -> None:
    facts = TaskFacts(True, idempotent, counts[0], POLICY, counts[1], counts[2], counts[3], on_loss)
    outcome = Outcome(status, retry=retry, crashed=crashed, checkpointed=checkpointed)
    assert decide(outcome, facts).status in (Status.CANCELLED, Status.FAILED, Status.DROPPED)


@given(
    status=st.sampled_from([s for s in RunStatus if s is not RunStatus.RUNNING]),
    retry=st.sampled_from([None, True, False]),
    flags=st.tuples(*[st.booleans()] * 4),
    counts=st.tuples(*[st.integers(0, 5)] * 4),
)
def test_every_decision_is_a_transition_from_running(
    status: RunStatus,
    retry: bool | None,
    flags: tuple[bool, bool, bool, bool],
    counts: tuple[int, int, int, int],
) -> None:
    facts = TaskFacts(flags[0], flags[1], counts[0], POLICY, counts[1], counts[2], counts[3])
    decision = decide(Outcome(status, retry=retry, crashed=flags[2], checkpointed=flags[3]), facts)
    assert decision.status in TRANSITIONS[Status.RUNNING]
    assert pytest.approx(decision.delay, abs=1000) == decision.delay
