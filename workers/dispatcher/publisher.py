"""Ringing the broker's doorbell: one message per dispatched task, after the commit.

Publishing may fail without harm, so it never waits longer than the transport's timeouts, and after a
failure the broker is left alone for a moment: a frozen broker must not hold up dispatching.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Any, cast

import structlog
from amqp.exceptions import MessageNacked
from kombu.exceptions import OperationalError
from kombu.pools import connections, reset

from tasks import fault_points
from workers.celery_app import SUPERVISE, app
from workers.dispatcher.store import Doorbell

PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Publisher:
    """Publishes doorbells in order and keeps those that the broker did not take."""

    def __init__(self) -> None:
        self._waiting: deque[Doorbell] = deque()
        self._paused_until = 0.0

    @property
    def broker_down(self) -> bool:
        """Whether the broker has just failed: nothing more should be dispatched for the moment."""
        return bool(self._waiting) or self._paused

    @property
    def _paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def publish(self, doorbells: Iterable[Doorbell]) -> None:
        """Publish these, after those that are still waiting."""
        self._waiting.extend(doorbells)
        self.flush()

    def flush(self) -> None:
        """Publish what waits, unless the broker has just failed."""
        if not self._waiting or self._paused:
            return
        try:
            with app.producer_or_acquire() as producer:
                while self._waiting:
                    fault_points.reach("before_publish")
                    bell = self._waiting[0]
                    app.send_task(
                        SUPERVISE,
                        args=[str(bell.task_id), bell.epoch, bell.token],
                        task_id=f"{bell.task_id}:{bell.epoch}",
                        queue=bell.queue,
                        # By the queue's own name: through an exchange each message would first
                        # have to ask Redis where that leads.
                        exchange="",
                        routing_key=bell.queue,
                        producer=producer,
                        retry=False,
                        ignore_result=True,
                        # RabbitMQ confirms even what it throws away because the queue has gone,
                        # unless it has to say so.
                        mandatory=True,
                    )
                    self._waiting.popleft()
                    fault_points.reach("after_publish")
        except self._failures as error:
            log.warning("broker_unreachable", waiting=len(self._waiting), error=str(error))
            self._hang_up()

    def forget(self, task_ids: set[str]) -> None:
        """Drop waiting messages that were published anew under another epoch."""
        self._waiting = deque(bell for bell in self._waiting if str(bell.task_id) not in task_ids)

    def depth(self, queue: str) -> int | None:
        """Return how many messages wait in the broker for ``queue``, or None if it does not say.

        A queue that the broker does not know is an empty one: Redis forgets a list with its last
        item, and RabbitMQ has lost the messages with the queue, which publishing makes anew.
        """
        if self._paused:
            return None
        try:
            with connections[app.connection_for_write()].acquire(block=False) as connection:
                declared = connection.default_channel.queue_declare(queue=queue, passive=True)
                return int(declared.message_count)
        except self._failures as error:
            if str(getattr(error, "reply_code", "")) == "404":
                self._hang_up(pause=0)
                return 0
            log.info("queue_depth_unknown", queue=queue, error=str(error))
            self._hang_up()
            return None

    def _hang_up(self, pause: float = PAUSE_SECONDS) -> None:
        """Leave the broker alone for a moment, and begin with new connections then.

        One that timed out may hold half a message or a late answer; one that was told that a queue
        is missing believes that it has declared it.
        """
        self._paused_until = time.monotonic() + pause
        cast(Any, app.amqp)._producer_pool = None
        reset()

    @cached_property
    def _failures(self) -> tuple[type[BaseException], ...]:
        """Every way in which this transport says that something is wrong with the broker."""
        connection = app.connection_for_write()
        return (
            OperationalError,
            OSError,
            MessageNacked,
            *connection.connection_errors,
            *connection.channel_errors,
        )
