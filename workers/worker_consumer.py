"""The worker's consumer: takes messages from the broker and lets only ours through to the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import kombu
from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer

from workers.broker import drop
from workers.messages import refusal

__all__ = ("GuardedConsumer",)

logger = get_logger(__name__)

#: Longest wait between two attempts to reach a lost broker, in seconds. Celery's default grows to
#: 30 s, half a minute in which a broker that is back has no workers.
LONGEST_RECONNECT_WAIT = 5.0


class Intake:
    """Takes messages from RabbitMQ only while a slot is free, as ``worker_disable_prefetch`` does for
    Redis.

    RabbitMQ sends ahead, at least one message for each slot. Such a message waits behind the run
    that holds the slot while another worker has nothing to do, until the dispatcher takes it for
    lost. So a worker whose slots are all taken stops consuming, and gives back what was on its way
    already. Neither waits for the broker's answer.
    """

    def __init__(self, consumer: GuardedConsumer) -> None:
        self._worker: Any = consumer
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether each slot has its task."""
        slots: int = self._worker.pool.num_processes
        return len(state.reserved_requests) >= slots

    def close_if_full(self) -> None:
        """Stop consuming once no slot is free."""
        if self._closed or not self.full:
            return
        consumer = self._worker.task_consumer
        for tag in consumer._active_tags.values():
            consumer.channel.basic_cancel(tag, nowait=True)
        self._closed = True

    def open_if_free(self) -> None:
        """Consume again, under the same tag, when a slot is free and the worker is not stopping."""
        running = self._worker.blueprint.state == cast(Any, bootsteps).RUN
        if not self._closed or self.full or not running:
            return
        consumer = self._worker.task_consumer
        channel = consumer.channel
        for queue, tag in consumer._active_tags.items():
            # The callback of a tag stays until the broker confirms its end, which it was asked not
            # to.
            channel.basic_consume(queue, consumer_tag=tag, callback=channel.callbacks[tag], nowait=True)
        self._closed = False


class GuardedConsumer(Consumer):
    """Celery's consumer without gossip, mingle and event heartbeats, and with a check of each message.

    The three are switched off here and not on the command line, so that no way of starting a worker
    forgets them: a worker's liveness is in PostgreSQL and in its heartbeat file.
    """

    connection_errors: tuple[type[Exception], ...]
    controller: Any
    intake: Intake | None = None

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        quiet = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        options = {**(worker_options or {}), **quiet}
        cast(Any, super()).__init__(*args, worker_options=options, **kwargs)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """The function called with each message: refuse it, or hand it to Celery."""
        hand_over = super().create_task_handler(*args, **kwargs)
        # One for each connection; Redis is asked for single messages, so it needs none.
        amqp = cast(Any, self).connection.transport.driver_type == "amqp"
        intake = self.intake = Intake(self) if amqp else None

        def on_task_received(message: Any) -> None:
            reason = self._refusal(message)
            if reason is not None:
                drop(reason)
                message.reject_log_error(logger, self.connection_errors)
            elif intake is not None and intake.full:
                message.reject_log_error(logger, self.connection_errors, requeue=True)
            else:
                hand_over(message)
                if intake is not None:
                    intake.close_if_full()

        return on_task_received

    def register_with_event_loop(self, hub: Any) -> None:
        """Look at each turn of the event loop whether a slot has become free."""
        cast(Any, super()).register_with_event_loop(hub)
        if self.intake is not None:
            # A set that outlives connections: the same method once more changes nothing.
            hub.on_tick.add(self.open_intake)

    def open_intake(self) -> None:
        """Consume again, on the connection of the moment, if that has stopped and a slot is free."""
        if self.intake is not None:
            self.intake.open_if_free()

    def _refusal(self, message: Any) -> str | None:
        """Why the message must not run; None when it may.

        Celery's own tasks (`celery.chain`, `celery.map` and others) are refused as unknown: they
        run whatever their arguments name.
        """
        headers = message.headers
        name = headers.get("task") if isinstance(headers, dict) else None
        if not isinstance(name, str) or name.startswith("celery.") or name not in self.app.tasks:
            return "its task is not known here"
        if message.errors:
            return "its body cannot be read"
        try:
            body = message.payload
        except Exception:  # whatever a decoder makes of foreign bytes
            return "its body cannot be read"
        rule = getattr(self.app.tasks[name], "argument_rule", None)
        return refusal(headers, message.content_type, body, rule)

    def ensure_connected(self, conn: kombu.Connection) -> kombu.Connection:
        """Wait for the broker, in short steps, and keep the heartbeat file fresh while waiting.

        Connecting blocks the event loop whose timer writes that file. A broker that is down is no
        reason to restart its workers.
        """
        patient = conn.ensure_connection
        heartbeat = getattr(self.controller, "heartbeat_file", None)

        def ensure_connection(
            errback: Any = None, max_retries: Any = None, callback: Any = None, **options: Any
        ) -> Any:
            def each_second() -> None:
                if heartbeat is not None:
                    heartbeat.beat(self.controller)
                if callback is not None:
                    callback()

            options = {
                "interval_start": 1,
                "interval_step": 1,
                "interval_max": LONGEST_RECONNECT_WAIT,
                **options,
            }
            return patient(errback, max_retries, callback=each_second, **options)

        cast(Any, conn).ensure_connection = ensure_connection
        try:
            return super().ensure_connected(conn)
        finally:
            del cast(Any, conn).ensure_connection
