"""Off-peak windows of a task type: outside them its batch tasks are not started, for any tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from audit.services import record
from rest.errors import NotFound
from tasks.models import TaskType
from tasks.wakeup import wake_on_commit
from tenants.actor import Actor
from tenants.windows import stored

Stored = dict[str, Any] | None


def type_windows_put(
    *,
    actor: Actor,
    name: str,
    windows: Mapping[str, Any] | None,
    check: Callable[[Stored], None] = lambda before: None,
) -> Stored:
    """Set a type's windows, or take them away, and return what is stored; audited when it changes.

    ``check`` sees those before, under the lock.

    Raises:
        NotFound: there is no such task type.
    """
    with transaction.atomic():
        task_type = TaskType.objects.select_for_update().filter(name=name).first()
        if task_type is None:
            raise NotFound()
        check(task_type.windows)
        now = stored(windows)
        if now != task_type.windows:
            # The column alone: the others are the workers' to write.
            TaskType.objects.filter(pk=task_type.pk).update(windows=now)
            record(
                actor=actor.name,
                action="type.windows",
                object=f"type:{name}",
                reason=actor.reason,
                data={"windows": now},
            )
            wake_on_commit("*", 0)
    return now
