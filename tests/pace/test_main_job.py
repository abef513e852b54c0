"""Promises about seconds, measured when no other test runs: the stage of the browser's tests."""

from __future__ import annotations

import json
import subprocess
import time

from tests.e2e.command import COMMAND, environment, printing
from tests.e2e.work import Work

__all__ = ["environment"]


def test_lines_arrive_within_half_a_second_of_being_flushed(environment: dict[str, str]) -> None:
    argv = ("run", "shell.command", "--queue", "critical", "--follow", "--", "sh", "-c", printing(40))
    with subprocess.Popen(
        [COMMAND, *argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        delays = [time.time() - float(line.split()[1]) for line in process.stdout]
    assert process.returncode == 0
    assert len(delays) == 40
    assert max(delays) < 0.5, sorted(delays)[-5:]


def test_a_line_is_readable_within_half_a_second_of_being_flushed(work: Work) -> None:
    script = "import time\nfor n in range(6):\n print(time.time(), flush=True); time.sleep(0.3)"
    task = work.shell("python3", "-c", script)
    delays = []
    headers = {"Accept": "text/event-stream"}
    with work.http.stream("GET", f"tasks/{task['id']}/log", headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data:"):
                frame = json.loads(line.removeprefix("data:"))
                now = time.time()
                delays += [now - float(each["text"]) for each in frame.get("data", {}).get("lines", ())]
    assert len(delays) == 6
    assert max(delays) < 0.5


def test_critical_work_starts_within_two_seconds_beside_full_batch_workers(work: Work) -> None:
    batch = [work.submit(queue="batch", params={"seconds": 20}) for _ in range(2)]
    for task in batch:
        work.until(task, "running")
    task = work.submit(queue="critical", params={})
    began = time.monotonic()
    work.until(task, "running", "completed")
    assert time.monotonic() - began < 2
    for each in batch:
        work.post(f"tasks/{each['id']}/cancel")
        work.end_of(each)
