"""kombu's Redis transport with two ways to lose a worker or a message closed.

1. An item on the queue that is no message, such as text that is not JSON, ends the worker, since
   the transport parses it in the event loop (`GuardedChannel._brpop_read`).
2. Redis forgets everything (FLUSHALL, a restart without a snapshot): a publisher that declared its
   queue before then publishes into nothing, without an error (`GuardedChannel.get_table`).

Two more are closed by the setting `ack_emulation` (`celery_settings.transport_options`). With books of
unacknowledged messages in Redis, a worker that loses Redis while it has one asks a closed channel for
its host name and stops consuming for ever (kombu 5.7.0), or believes its slots taken for ever.

`install` makes every redis://, rediss:// and redis+socket:// connection of this process use it, and
every connection to RabbitMQ its bounded transport (`workers.rabbitmq`).
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from queue import Empty
from typing import Any, cast

from celery.utils.log import get_logger
from kombu import transport
from kombu.transport import redis as redis_transport
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

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


class GuardedChannel(redis_transport.Channel):
    """A channel that survives a vanished broker, garbage on its queues and a broker that forgot all."""

    _sender: Any = None

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

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the client of this channel's connections, of which kombu makes one for each message.

        That was a tenth of the dispatcher's work. A client keeps nothing but its connections' pool.
        """
        channel = cast(Any, self)
        if asynchronous:
            return cast(Any, super())._create_client(asynchronous=True)
        if self._sender is None or self._sender.connection_pool is not channel.pool:
            self._sender = cast(Any, super())._create_client()
        return self._sender

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
