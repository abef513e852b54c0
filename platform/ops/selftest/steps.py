"""The steps of the self-test; each returns what it saw, or raises :class:`Broken`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.selftest.canaries import Canaries, ask_until
from ops.selftest.doorbell import Doorbell
from ops.supervision.processes import children
from switchyard.client.models import Task
from workers.sandbox.tree import of_run

LATER = timedelta(hours=1)
SLEEP_SECONDS = 8.0
TRIES = 5
NOBODY = "no worker is alive"
LISTEN_SECONDS = 3.0

Step = Callable[[Canaries], str]


class Broken(Exception):
    """A promise was not kept; the message says which."""


class Skipped(Exception):
    """A step cannot be done from here; the message says why."""


def queues(canaries: Canaries) -> list[str]:
    """Return the queues that have living workers, the least important first."""
    serving = {str(worker.get("queue")) for worker in _workers(canaries)}
    return [queue for queue in ("batch", "normal", "critical") if queue in serving]


def every_queue_works(canaries: Canaries) -> str:
    """One canary through each queue that has workers."""
    found = queues(canaries)
    if not found:
        raise Broken(NOBODY)
    for task in [canaries.submit(queue) for queue in found]:
        _completed(canaries, task, runs=1)
    return f"canaries passed through {', '.join(found)}"


def isolation_is_reported(canaries: Canaries) -> str:
    """Each worker says at which level it isolates runs; after a start, the first is waited for."""
    workers = ask_until(lambda: _workers(canaries), bool, seconds=canaries.patience)
    levels = sorted({str(worker.get("isolation") or "unknown") for worker in workers})
    if not levels:
        raise Broken(NOBODY)
    if "unknown" in levels:
        raise Broken("a worker does not say how it isolates runs")
    return f"isolation: {', '.join(levels)}"


def a_killed_supervisor_is_survived(canaries: Canaries) -> str:
    """SIGKILL the supervisor of a canary: its handler dies with it, and a second run completes."""
    task = canaries.submit(_least_important(canaries), seconds=SLEEP_SECONDS)
    seen = canaries.until(task, "running")
    if not seen.runs:
        raise Broken(f"canary {task.id} has not started but is {seen.status}")
    run: dict[str, Any] = dict(seen.runs[-1].raw)
    pid = int(run.get("pid") or 0)
    if pid not in _supervisors_here(canaries) or not (tree := _tree(task)):
        raise Skipped(f"the canary runs on another machine than {socket.gethostname()}, or unseen")
    os.kill(pid, signal.SIGKILL)
    done = _completed(canaries, task, runs=2)
    if [each.status for each in done.runs] != ["lost", "completed"]:
        raise Broken(f"the runs ended as {[each.status for each in done.runs]}")
    if survivors := tree.intersection(of_run(str(task.id))):
        raise Broken(f"processes of the killed run are still there: {survivors}")
    return "a killed run left no process, and another one completed"


def a_lost_message_is_sent_again(canaries: Canaries, doorbell: Doorbell) -> str:
    """Take a canary's message out of the broker: it is published again, and runs once."""
    if not doorbell.can_be_heard:
        raise Skipped("only the messages of a Redis or Valkey broker can be taken out")
    queue = _least_important(canaries)
    for _ in range(TRIES):
        listening, ids, lost = threading.Event(), set[str](), []

        def listen() -> None:
            lost.append(doorbell.lose(queue, listening, ids, seconds=LISTEN_SECONDS))  # noqa: B023

        thread = threading.Thread(target=listen)
        thread.start()
        # Workers that asked before us must have asked anew: see `doorbell`.
        listening.wait(LISTEN_SECONDS)
        thread.join(1.2)
        task = canaries.submit(queue)
        ids.add(task.id)
        thread.join()
        _completed(canaries, task, runs=1)
        if lost == [True]:
            return "a message that the broker lost was sent again, and ran once"
    raise Skipped(f"workers were faster than us, {TRIES} times")


def what_is_cancelled_while_it_waits_never_starts(canaries: Canaries) -> str:
    """Cancel a canary that waits for its time."""
    task = canaries.submit("batch", scheduled_for=datetime.now(UTC) + LATER)
    if not canaries.client.cancel(task, reason="self-test").changed:
        raise Broken("a cancel of a waiting canary changed nothing")
    canaries.never_started.add(task.id)
    if (now := canaries.client.task(task)).status != "cancelled":
        raise Broken(f"a cancelled canary is {now.status}")
    return "a cancelled canary ended at once"


def promises_were_kept(canaries: Canaries) -> str:
    """No canary lost, each ended once, events without gap or double, none started after its cancel."""
    if problems := list(canaries.problems()):
        raise Broken("; ".join(problems))
    return f"{len(canaries.submitted)} canaries ended once each, with every event"


def _least_important(canaries: Canaries) -> str:
    found = queues(canaries)
    if not found:
        raise Broken(NOBODY)
    return found[0]


def _workers(canaries: Canaries) -> list[dict[str, Any]]:
    """Return the living workers."""
    found = [dict(worker) for worker in canaries.client.operator.workers()]
    return [worker for worker in found if worker.get("status") == "alive"]


def _completed(canaries: Canaries, task: Task, *, runs: int) -> Task:
    done = canaries.end_of(task)
    if done.status != "completed":
        raise Broken(f"canary {task.id} is {done.status} ({done.status_reason}), not completed")
    if len(done.runs) != runs:
        raise Broken(f"canary {task.id} had {len(done.runs)} runs, not {runs}")
    return done


def _supervisors_here(canaries: Canaries) -> set[int]:
    """Return the processes of this machine that are children of a worker, and that we may kill."""
    host = socket.gethostname()
    found = set()
    for worker in _workers(canaries):
        if worker.get("host") != host or not worker.get("pid"):
            continue
        for pid in children(int(worker["pid"])):
            with suppress(OSError):
                os.kill(pid, 0)
                found.add(pid)
    return found


def _tree(task: Task) -> set[int]:
    """Wait until a canary's own processes are there, and return them; none if they are not seen."""
    return ask_until(lambda: set(of_run(str(task.id))), bool, seconds=SLEEP_SECONDS / 2)
