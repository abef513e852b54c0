"""What time brings: unclaimed messages, ended leases, silent workers, due tasks."""

from __future__ import annotations

import uuid

import structlog

from tasks.aside import Aside
from tasks.selectors.ability import WORKER_SILENT_SECONDS
from tasks.services.lose import expired_runs, lose
from tasks.services.release import due
from tasks.services.workers import workers_lose_silent
from workers.dispatcher import lending, store
from workers.dispatcher.publisher import Publisher

BATCH = 200

log = structlog.get_logger(__name__)


class Reaper:
    """Does what time brings, row by row: one that cannot be handled does not hold up the others.

    It is left alone for a while (:mod:`tasks.aside`) and then tried again.
    """

    def __init__(self) -> None:
        self._not_lost = Aside[uuid.UUID]("lost run")
        self._not_due = Aside[uuid.UUID]("due task")
        self._not_rung = Aside[uuid.UUID]("unclaimed message")

    def reap_runs(self) -> int:
        """End runs whose lease has ended as lost; return how many."""
        ended = 0
        for expired in expired_runs(BATCH, self._not_lost.keys()):
            with self._not_lost.trying(expired.task_id):
                status = lose(expired)
                if status is not None:
                    ended += 1
                    log.warning("run_lost", task=str(expired.task_id), epoch=expired.epoch, now=status)
        workers_lose_silent(WORKER_SILENT_SECONDS * 3)
        return ended

    def release_due(self) -> int:
        """Move tasks on whose time has come; return how many."""
        moved = 0
        for task_id, what in store.due_items(BATCH, self._not_due.keys()):
            with self._not_due.trying(task_id):
                moved += due(task_id, what)
        return moved

    def ring_again(self, leader: int, publisher: Publisher) -> int:
        """Publish unclaimed tasks again, but only as many as the broker has really lost.

        A message that still waits in the broker behind busy workers is not lost, and publishing it
        again would add one more to a queue that is too long already.
        """
        if publisher.broker_down:
            return 0
        aside = self._not_rung
        rung = lending.take_back(leader, publisher, BATCH, aside)
        for queue, overdue in store.overdue_by_queue(BATCH, aside.keys()).items():
            depth = publisher.depth(queue)
            if publisher.broker_down:
                # Asking has shown that nothing can be published now; the messages are as lost later.
                return rung
            missing = len(overdue) if depth is None else max(0, store.unclaimed(queue) - depth)
            lost, waiting = overdue[:missing], overdue[missing:]
            if waiting:
                store.grant_time(waiting)
            if lost:
                bells = aside.together(
                    lost, lambda row: row[0], lambda rows: store.republish(leader, rows)
                )
                publisher.forget({str(bell.task_id) for bell in bells})
                publisher.publish(bells)
                rung += len(bells)
                log.info("rung_again", queue=queue, count=len(bells), in_broker=depth)
        return rung
