"""What is published for a dispatched task, in the broker that the tests have."""

from __future__ import annotations

import json
import uuid
from typing import Any

from workers.celery_app import SUPERVISE, app
from workers.dispatcher.publisher import Publisher
from workers.dispatcher.store import Doorbell
from workers.messages import refusal, supervise_arguments


def found(queue: str, message_id: str) -> dict[str, Any]:
    """Return the one message with this id that waits in the broker."""
    with app.connection_for_read() as connection:
        items = connection.default_channel.client.lrange(queue, 0, -1)
    (message,) = [each for each in map(json.loads, items) if each["headers"]["id"] == message_id]
    return message  # type: ignore[no-any-return]


def test_a_doorbell_is_the_message_that_celery_would_send() -> None:
    bell = Doorbell(uuid.uuid4(), "batch", 1, 3, "token")
    publisher = Publisher()
    publisher.publish([bell, bell._replace(epoch=4)])
    ours = found("batch", f"{bell.task_id}:3")
    args = [str(bell.task_id), 3, "token"]
    app.send_task(
        SUPERVISE, args=args, task_id="theirs", queue="batch", exchange="", routing_key="batch"
    )
    theirs = found("batch", "theirs")
    assert ours["body"] == theirs["body"]
    # What differs is told to nobody: where an answer would go, and the arguments (the token) once more.
    for part, untold in (("headers", {"argsrepr", "ignore_result"}), ("properties", {"reply_to"})):
        changed = {name for name, value in theirs[part].items() if ours[part].get(name) != value}
        assert changed <= {"id", "root_id", "correlation_id", "delivery_tag"} | untold
        assert ours[part].keys() | untold == theirs[part].keys() | untold
    assert "token" not in str(ours["headers"])
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        message = channel.message_to_python(ours)
    assert refusal(message.headers, message.content_type, message.decode(), supervise_arguments) is None
    assert found("batch", f"{bell.task_id}:4")["headers"]["root_id"] == f"{bell.task_id}:4"
