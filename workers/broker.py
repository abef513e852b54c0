"""kombu's Redis transport with its four ways to lose a worker or a message closed.

1. Redis refuses connections while a message is unacknowledged: kombu 5.7.0 asks a channel that has
   lost its connection for the host name, gets an AttributeError, which is no connection error, and
   the worker stops consuming for ever (measured; `GuardedChannel._connparams`).
2. An item on the queue that is no message, such as text that is not JSON, ends the worker, since
   the transport parses it in the event loop (`GuardedChannel._brpop_read`).
3. Redis forgets everything (FLUSHALL, a restart without a snapshot): a publisher that declared its
   queue before then publishes into nothing, without an error (`GuardedChannel.get_table`).
4. Redis goes away before an acknowledgement: the worker believes its slots taken (`GuardedQoS`).

`install` makes every redis://, rediss:// and redis+socket:// connection of this process use it, and
every connection to RabbitMQ its bounded transport (`workers.rabbitmq`).
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, cast

from celery.utils.log import get_logger
from kombu import transport
from kombu.transport import redis as redis_transport
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ("GuardedChannel", "GuardedTransport", "dropped", "install", "raw_message")

logger = get_logger(__name__)

#: Messages this process threw away, by reason. The heartbeat file carries it.
dropped: Counter[str] = Counter()


#: URL scheme to the transport that takes the place of kombu's own.
TRANSPORTS = {
    "redis": "workers.broker:GuardedTransport",
    "rediss": "workers.broker:GuardedTransport",
    "amqp": "workers.rabbitmq:BoundedTransport",
    "pyamqp": "workers.rabbitmq:BoundedTransport",
    "amqps": "workers.rabbitmq:BoundedSSLTransport",
}


def install() -> None:
    """Replace kombu's transports by ours. Call before the first connection is made."""
    for alias, ours in TRANSPORTS.items():
        transport.TRANSPORT_ALIASES[alias] = ours
        cast(Any, transport)._transport_cache.pop(alias, None)


def drop(reason: str) -> None:
    """Count and log a message that is thrown away; its content, which may be secret, is not logged."""
    dropped[reason] += 1
    logger.warning("A message was refused and deleted: %s.", reason)


def raw_message(item: bytes | str) -> dict[str, Any]:
    """Decode a list item into the transport's message; `ValueError` says why it is none."""
    try:
        message = loads(bytes_to_str(item))
    except Exception as error:  # the decoder also revives dates, UUIDs and the like from any input
        raise ValueError("it is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
        raise ValueError("it is not a message")
    properties = message["properties"]
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not isinstance(properties.get("delivery_tag"), str):
        raise ValueError("it is not a message")
    if not all(isinstance(delivery.get(key), str) for key in ("exchange", "routing_key")):
        raise ValueError("it is not a message")
    headers = message.get("headers")
    if not isinstance(headers, dict) or headers.get("compression"):
        raise ValueError("it has no headers or a compressed body")
    encoding, body = properties.get("body_encoding"), message.get("body")
    if not isinstance(body, str) or encoding not in ("base64", "utf-8", None):
        raise ValueError("its body cannot be read")
    if encoding == "base64":
        try:
            b64decode(body)
        except ValueError as error:
            raise ValueError("its body cannot be read") from error
    return message


class GuardedQoS(redis_transport.QoS):
    """The books of unacknowledged messages, kept straight when Redis cannot be told.

    A message whose acknowledgement failed otherwise counts against the prefetch limit for ever.
    With as many of them as slots the worker asks for nothing more, so it never notices that the
    connection is gone: connected, idle and deaf (measured with one slot).
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; when Redis is gone, give the credit back and say so."""
        with self._credit(delivery_tag):
            cast(Any, super()).ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject; when Redis is gone, give the credit back and say so."""
        with self._credit(delivery_tag):
            cast(Any, super()).reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _credit(self, delivery_tag: str) -> Iterator[None]:
        books = cast(Any, self)
        try:
            yield
        except books.channel.connection_errors:
            books._quick_ack(delivery_tag)
            raise


class GuardedChannel(redis_transport.Channel):
    """A channel that survives a vanished broker, garbage on its queues and a broker that forgot all."""

    QoS = GuardedQoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Say "connection lost" in the words that every caller handles.

        The unacknowledged messages of a closed channel are given back through a new connection, but
        a closed channel no longer knows where to. They are lost: the dispatcher publishes again.
        """
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("The channel was closed when the broker's connection was lost.")
        return cast(dict[str, Any], cast(Any, super())._connparams(asynchronous=asynchronous))

    def _brpop_read(self, **options: Any) -> bool:
        """Read the reply to BRPOP and deliver it if it is a message; as in the original, else.

        What is dropped here is gone from Redis: BRPOP removed it and nothing has stored it yet.
        """
        channel = cast(Any, self)
        try:
            try:
                reply = channel.client.parse_response(channel.client.connection, "BRPOP", **options)
            except channel.connection_errors:
                channel.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            key, item = reply
            queue = bytes_to_str(key).rsplit(channel.sep, 1)[0]
            channel._queue_cycle.rotate(queue)
            try:
                message = raw_message(item)
            except ValueError as error:
                drop(str(error))
                return True
            channel.connection._deliver(message, queue)
            return True
        finally:
            channel._in_poll = None
            channel._flush_brpop_reauth()

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """The exchange's bindings: what Redis knows, and what this process declared and Redis forgot.

        Forgotten bindings are stored again, so that other publishers find them too.
        """
        channel = cast(Any, self)
        table = list(cast(Any, super()).get_table(exchange))
        known = {tuple(binding) for binding in table}
        for binding in channel.state.exchanges.get(exchange, {}).get("table", ()):
            stored = tuple(part or "" for part in binding)
            if stored not in known:
                channel._queue_bind(exchange, *binding)
                table.append(stored)
        return table


class GuardedTransport(redis_transport.Transport):
    """kombu's Redis transport over `GuardedChannel`."""

    Channel = GuardedChannel
