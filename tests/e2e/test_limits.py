"""Limits as a client meets them: time with retries, and results and output at their size."""

from __future__ import annotations

from tests.e2e.work import Work

AT_ONCE = {"delay": 0, "factor": 1, "jitter": 0}
LARGE = 900_000


def test_an_attempt_that_takes_too_long_is_tried_again_as_often_as_may_be(work: Work) -> None:
    task = work.submit(params={"seconds": 60}, time_limit=0.5, max_retries=1, retry=AT_ONCE)
    done = work.end_of(task)
    assert (done["status"], done["status_reason"]) == ("failed", "max_retries_exceeded")
    assert [run["status"] for run in done["runs"]] == ["timed_out", "timed_out"]
    assert (done["error"]["code"], done["counts"]["failures"]) == ("timed_out", 2)
    work.check_history(task)


def test_a_result_near_the_size_of_a_message_comes_back_whole(work: Work) -> None:
    result = {"text": "x" * LARGE}
    done = work.end_of(work.submit(params={"result": result}))
    assert (done["status"], done["result"]) == ("completed", result)
