"""Deciding a submission's queue, see :mod:`tasks.routing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest.errors import FieldError, ScopeRequired
from tasks.models import TaskType
from tasks.routing import RAISE, first_match, is_above
from tasks.selectors.routes import estimated_seconds, rules
from tasks.submission import Submission
from tenants.actor import Actor


@dataclass(frozen=True, slots=True)
class Classified:
    """The queue that a task goes to, and what its first event tells about that."""

    queue: str
    facts: dict[str, Any]


def classify(
    actor: Actor, tenant_id: int, submission: Submission, task_type: TaskType, version: str | None
) -> Classified:
    """Return where a submission belongs; ``version`` is that of the rules.

    Raises:
        ScopeRequired: it asks for a queue above its type's, and the caller may not. A rule that would
            lower it all the same changes nothing about that.
    """
    asked = submission.queue or task_type.queue
    if is_above(asked, task_type.queue) and not (actor.operator or actor.can(RAISE)):
        detail = (
            f"The queue of {task_type.name} is {task_type.queue}; a more urgent one needs the scope "
            f"{RAISE}."
        )
        raise ScopeRequired(RAISE, errors=[FieldError("/queue", "queue_above_type", detail)])
    known = rules(version)
    seconds = None
    if any(rule.by_length for rule in known):
        seconds = estimated_seconds(task_type.pk, tenant_id)
    rule = first_match(known, tenant_id, task_type.name, submission.labels, seconds)
    if rule is None:
        return Classified(asked, {})
    return Classified(rule.queue, {"routed": {"rule": rule.name, "asked": asked}})
