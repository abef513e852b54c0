"""Which messages a worker may run: plain rules, no Celery and no Django.

Whoever reaches the broker can push any bytes onto a queue. Of a Celery message Switchyard uses a
task's name, an id and positional arguments, nothing else. Callbacks, chains, groups and chords
would make one message publish others; an ETA would hoard it in the worker's memory; time limits and
stamps reach into the parent process. A message with any of these is not ours and is refused,
whatever it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

__all__ = ("ArgumentRule", "refusal", "supervise_arguments")

#: Says why arguments are wrong, or None. Called with args and kwargs as they were decoded.
ArgumentRule = Callable[[list[Any], dict[str, Any]], str | None]

#: Headers that must be empty, with what they would do.
UNUSED_HEADERS = {
    "eta": "an ETA",
    "group": "a group",
    "timelimit": "a time limit",
    "stamps": "stamps",
    "stamped_headers": "stamps",
    "compression": "a compressed body",
}

#: Longest token the dispatcher makes, in characters, with room to spare.
LONGEST_TOKEN = 256


def refusal(
    headers: object, content_type: object, body: object, rule: ArgumentRule | None
) -> str | None:
    """Why this message must not run, as the end of "message refused: …"; None when it may.

    `headers` and `body` are as they came from the broker, the body already decoded from JSON.
    `rule` checks the arguments of a tenant's task; the platform's own tasks have none and may
    expire.
    """
    if not isinstance(headers, Mapping):
        return "it has no headers"
    if not isinstance(headers.get("id"), str) or not headers["id"]:
        return "it has no id"
    if content_type != "application/json":
        return "it is not JSON"
    for header, meaning in UNUSED_HEADERS.items():
        value = headers.get(header)
        if value and not (header == "timelimit" and value == [None, None]):
            return f"it carries {meaning}"
    expires = headers.get("expires")
    if expires is not None and (rule is not None or not isinstance(expires, str)):
        return "it carries an expiry"
    if not isinstance(body, (list, tuple)) or len(body) != 3:
        return "its body is not arguments, keyword arguments and embedded parts"
    args, kwargs, embedded = body
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        return "its arguments are not a list and a mapping"
    if not isinstance(embedded, dict) or any(embedded.values()):
        return "it carries callbacks, a chain or a chord"
    return rule(args, kwargs) if rule is not None else None


def supervise_arguments(args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """Arguments of `workers.supervise`: the task's UUID, its epoch (1 and up), the claim's token."""
    if kwargs or len(args) != 3:
        return "its arguments are not a task id, an epoch and a token"
    task_id, epoch, token = args
    try:
        UUID(task_id)
    except (AttributeError, TypeError, ValueError):
        return "its task id is not a UUID"
    if type(epoch) is not int or not 1 <= epoch < 2**63:
        return "its epoch is not a positive number"
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN:
        return "its token is not a short text"
    return None
