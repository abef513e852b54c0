"""kombu's RabbitMQ transport with an end to every wait.

py-amqp waits for ever for what the broker owes it: the confirmation of a message, the answer to a
declaration, the farewell at a close. A RabbitMQ that is frozen, out of memory or behind a broken
network would stop the dispatcher in the middle of a publish (`BoundedConnection.drain_events`).

`workers.broker.install` makes every amqp://, pyamqp:// and amqps:// connection of this process use
it.
"""

from __future__ import annotations

from typing import Any, cast

from kombu.transport import pyamqp

from workers.celery_settings import BROKER_TIMEOUT

__all__ = ("BoundedConnection", "BoundedSSLTransport", "BoundedTransport")


class BoundedConnection(pyamqp.Connection):
    """A connection that gives up on an answer after `BROKER_TIMEOUT` seconds of silence.

    The error is a TimeoutError, and the connection is gone then: a late answer would be taken for
    the next one's, and a polite farewell would wait as long once more.
    """

    def drain_events(self, timeout: float | None = None) -> Any:
        """Read until something has happened; a caller that knows its own patience keeps it."""
        if timeout is not None:
            return cast(Any, super()).drain_events(timeout=timeout)
        try:
            return cast(Any, super()).drain_events(timeout=BROKER_TIMEOUT)
        except TimeoutError:
            self.collect()
            raise


class BoundedTransport(pyamqp.Transport):
    """kombu's RabbitMQ transport over `BoundedConnection`."""

    Connection = BoundedConnection


class BoundedSSLTransport(pyamqp.SSLTransport):
    """The same with TLS."""

    Connection = BoundedConnection
