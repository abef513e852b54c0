"""Ringing the broker's doorbell: one message per dispatched task, after the commit.

Publishing may fail without harm, so it never waits longer than the transport's timeouts, and after a
failure the broker is left alone for a moment: a frozen broker must not hold up dispatching.

Each message is Celery's own (protocol 2), but what ``app.send_task`` finds out anew for each (options,
routes, a producer, a queue to declare) is found once for each connection here. That was nearly half of
all that the dispatcher does for a small run.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any

import structlog
from amqp.exceptions import MessageNacked
from kombu.exceptions import OperationalError

from tasks import fault_points
from workers.celery_app import SUPERVISE, app
from workers.celery_settings import POOLS
from workers.dispatcher.store import Doorbell

PAUSE_SECONDS = 1.0
HANG_UP_SECONDS = 0.1

log = structlog.get_logger(__name__)


class _Line:
    """A connection to the broker, and what is found once for all messages that go over it."""

    def __init__(self) -> None:
        amqp: Any = app.amqp
        self._connection: Any = app.connection_for_write()
        self._channel: Any = self._connection.default_channel
        self._producer = amqp.Producer(self._channel)
        # Bound, so that each is declared once: RabbitMQ needs to have it.
        self._queues = {name: amqp.queues[name].bind(self._channel) for name in POOLS}
        message = amqp.create_task_message("", SUPERVISE, ignore_result=True)
        self._headers, (_, _, self._embedded) = message.headers, message.body

    def send(self, bell: Doorbell) -> None:
        """Send a message, and wait until the broker has it."""
        message_id = f"{bell.task_id}:{bell.epoch}"
        self._producer.publish(
            json.dumps(([str(bell.task_id), bell.epoch, bell.token], {}, self._embedded)),
            content_type="application/json",
            content_encoding="utf-8",
            headers={**self._headers, "id": message_id, "root_id": message_id},
            correlation_id=message_id,
            # By the queue's own name: through an exchange each message would first have to ask Redis
            # where that leads.
            exchange="",
            routing_key=bell.queue,
            declare=[self._queues[bell.queue]],
            # RabbitMQ confirms even what it throws away because the queue has gone, unless it has to say
            # so.
            mandatory=True,
        )

    def depth(self, queue: str) -> int:
        """Return how many messages wait for a queue."""
        return int(self._channel.queue_declare(queue=queue, passive=True).message_count)

    def hang_up(self) -> None:
        """Close the connection, without a word to a broker that may be frozen."""
        with suppress(Exception):  # it is broken, in whatever way
            self._connection.collect(HANG_UP_SECONDS)


class Publisher:
    """Publishes doorbells in order and keeps those that the broker did not take."""

    def __init__(self) -> None:
        self._waiting: deque[Doorbell] = deque()
        self._paused_until = 0.0
        self._line: _Line | None = None

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
            line = self._connected()
            while self._waiting:
                fault_points.reach("before_publish")
                line.send(self._waiting[0])
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
            return self._connected().depth(queue)
        except self._failures as error:
            if str(getattr(error, "reply_code", "")) == "404":
                self._hang_up(pause=0)
                return 0
            log.info("queue_depth_unknown", queue=queue, error=str(error))
            self._hang_up()
            return None

    def _hang_up(self, pause: float = PAUSE_SECONDS) -> None:
        """Leave the broker alone for a moment, and begin with a new connection then.

        One that timed out may hold half a message or a late answer; one that was told that a queue
        is missing believes that it has declared it.
        """
        self._paused_until = time.monotonic() + pause
        if self._line is not None:
            self._line.hang_up()
            self._line = None

    def _connected(self) -> _Line:
        if self._line is None:
            self._line = _Line()
        return self._line

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
