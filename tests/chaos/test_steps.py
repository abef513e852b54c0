"""A process dies, or stops, at an exact step of a task's life."""

from __future__ import annotations

import os
import signal
import threading
import time

import httpx2
import pytest

from ops.supervision.processes import descendants
from tests.chaos.stage import Stage
from tests.conftest import Eventually
from tests.e2e.work import Json


def operators_view(stage: Stage, task: Json) -> Json:
    """Return a task as a platform operator sees it, with workers and process ids."""
    with stage.platform.operator() as operator:
        found: Json = operator.get(f"tenants/{stage.platform.tenant}/tasks/{task['id']}").json()
        return found


def post_once(stage: Stage, key: str) -> httpx2.Response | None:
    """POST once; None when the connection ended without an answer."""
    with stage.platform.client() as http:
        try:
            return http.post(
                "tasks",
                json={"type": "test.dummy", "params": {}},
                headers={"Idempotency-Key": key},
            )
        except httpx2.HTTPError:
            return None


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_web_process_that_dies_around_the_commit_leaves_one_task_for_the_key(
    stage: Stage, point: str
) -> None:
    stage.arm(point)
    assert post_once(stage, f"dies-{point}") is None
    assert stage.sprung(point)
    first = stage.submit(f"dies-{point}", params={})
    assert stage.submit(f"dies-{point}", params={})["id"] == first["id"]
    assert stage.work.end_of(first)["status"] == "completed"


@pytest.mark.parametrize("point", ["in_dispatch", "before_publish"])
def test_a_dispatcher_that_dies_in_a_batch_dispatches_nothing_twice(stage: Stage, point: str) -> None:
    old = stage.platform.pid("dispatcher")
    stage.arm(point)
    tasks = [stage.submit(params={"stdout": "once"}) for _ in range(4)]
    stage.platform.wait_for_another("dispatcher", old)
    for task in tasks:
        done = stage.work.end_of(task)
        assert (done["status"], len(done["runs"])) == ("completed", 1)


def test_whoever_dies_while_it_gives_up_a_run_is_followed_by_one_that_finishes(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 1})
    stage.work.until(task, "running")
    # The dispatcher by the lease, or the pool manager, which saw its supervisor die.
    stage.arm("in_reap")
    os.kill(operators_view(stage, task)["runs"][0]["pid"], signal.SIGKILL)
    done = stage.work.end_of(task)
    assert stage.sprung("in_reap")
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]


def test_a_child_that_dies_before_its_claim_costs_no_attempt(stage: Stage) -> None:
    stage.arm("before_claim")
    done = stage.work.end_of(stage.submit(params={}, idempotent=False))
    assert stage.sprung("before_claim")
    assert (done["status"], done["attempt"], done["counts"]["losses"]) == ("completed", 1, 0)


@pytest.mark.parametrize("point", ["after_claim", "after_handler"])
def test_a_supervisor_that_dies_on_the_way_loses_its_run_and_no_task(stage: Stage, point: str) -> None:
    stage.arm(point)
    done = stage.work.end_of(stage.submit(params={"stdout": "said"}))
    assert stage.sprung(point)
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]
    assert stage.work.texts(done, run=2, stream="stdout") == ["said"]


def test_a_supervisor_that_dies_after_the_end_changes_nothing(
    stage: Stage, eventually: Eventually
) -> None:
    stage.arm("after_finalise")
    task = stage.submit(params={"result": {"answer": 42}}, idempotent=False)
    stage.work.end_of(task)
    assert stage.sprung("after_finalise")
    # Whoever looks after leases has looked: one that began later has ended, and its run was given up.
    end_by_lease(stage, eventually)
    done = stage.work.task(task)
    assert (done["status"], done["result"], len(done["runs"])) == ("completed", {"answer": 42}, 1)


def test_a_zombie_that_wakes_up_cannot_end_somebody_elses_attempt(
    stage: Stage, eventually: Eventually
) -> None:
    task = end_by_lease(stage, eventually)
    assert stage.work.task(task)["status"] == "completed"


def end_by_lease(stage: Stage, eventually: Eventually) -> Json:
    """Return a task whose first run was lost by its lease; its supervisor then woke up, in vain."""
    stage.arm("before_finish")
    task = stage.submit(params={"result": {"from": "somebody"}})
    eventually(lambda: stage.sprung("before_finish"), seconds=20)
    zombie = operators_view(stage, task)["runs"][0]["pid"]
    done = stage.work.end_of(task)
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]
    os.kill(zombie, signal.SIGCONT)

    def refused() -> bool:
        events = stage.work.events(task)
        return any("refused" in event["data"] for event in events if event["kind"] == "error")

    eventually(refused, seconds=10)
    return task


def test_a_supervisor_that_dies_in_the_grace_of_a_cancel_ends_cancelled(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 30, "ignore_cancel": True, "ignore_sigterm": True})
    stage.work.until(task, "running")
    assert stage.work.post(f"tasks/{task['id']}/cancel")["changed"]
    os.kill(operators_view(stage, task)["runs"][0]["pid"], signal.SIGKILL)
    done = stage.work.end_of(task, seconds=20)
    assert (done["status"], len(done["runs"])) == ("cancelled", 1)


def test_a_poison_task_is_started_twice_and_no_more(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 30})
    for attempt in (1, 2):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            seen = operators_view(stage, task)
            if seen["status"] == "running" and seen["attempt"] == attempt:
                os.kill(seen["runs"][-1]["pid"], signal.SIGKILL)
                break
            time.sleep(0.05)
    done = stage.work.end_of(task)
    assert (done["status"], done["status_reason"], len(done["runs"])) == ("failed", "poison", 2)


def test_a_machine_that_vanishes_with_all_its_workers_is_found_by_lease(stage: Stage) -> None:
    tasks = [stage.submit(params={"seconds": 1.5}, queue=queue) for queue in ("normal", "batch")]
    for task in tasks:
        stage.work.until(task, "running")
    manager = stage.platform.pid("pools")
    for pid in [manager, *descendants(manager)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for task in tasks:
        done = stage.work.end_of(task, seconds=60)
        assert [run["status"] for run in done["runs"]] == ["lost", "completed"]
        assert done["counts"]["losses"] == 1


def test_a_worker_that_is_stopped_with_too_short_a_grace_loses_its_run_only(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 3}, queue="batch")
    stage.work.until(task, "running")
    main = stage.platform.signal("batch", signal.SIGTERM)
    time.sleep(0.5)  # the grace that was too short
    os.kill(main, signal.SIGKILL)
    done = stage.work.end_of(task, seconds=60)
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]


def test_a_run_that_is_shorter_than_the_drain_finishes_when_its_worker_is_told_to_stop(
    stage: Stage,
) -> None:
    task = stage.submit(params={"seconds": 2}, queue="batch", idempotent=False)
    stage.work.until(task, "running")
    main = stage.platform.signal("batch", signal.SIGTERM)
    done = stage.work.end_of(task)
    assert (done["status"], len(done["runs"])) == ("completed", 1)
    stage.platform.wait_for_another("batch", main, seconds=60)


def test_a_cancel_that_races_the_claim_is_never_followed_by_completed(stage: Stage) -> None:
    for _ in range(12):
        task = stage.submit(params={"seconds": 0.2})
        answers: list[Json] = []
        barrier = threading.Barrier(2)

        def cancel() -> None:
            barrier.wait(5)  # noqa: B023 - joined below
            with stage.platform.client() as http:
                answer = http.post(f"tasks/{task['id']}/cancel", json={})  # noqa: B023
                assert answer.status_code in (200, 409), answer.text
                if answer.status_code == 200:
                    answers.append(answer.json())  # noqa: B023

        thread = threading.Thread(target=cancel)
        thread.start()
        barrier.wait(5)
        thread.join()
        done = stage.work.end_of(task)
        if answers and answers[0]["task"]["status"] == "cancelled":
            stage.ledger.cancelled_waiting.add(task["id"])
            assert (done["status"], done["runs"]) == ("cancelled", [])
        else:
            assert done["status"] in ("cancelled", "completed")
