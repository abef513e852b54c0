"""A planned stop: what waits for workers that are not there any more, and is not to outlive them."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from rest.ties import again_on_ties
from tasks.models import Inflight, Parked, Ready, TaskType
from tasks.selectors.ability import capacities
from tasks.services.ready import one_change
from tasks.services.release import drop
from tasks.services.transitions import lock_task
from tasks.states import Reason, Status


def drop_waiting(queues: Collection[str]) -> int:
    """Drop what waits in line in queues whose last workers were stopped, where its type says so.

    A queue that another machine still serves has lost nothing, and what waits for a time, for parents
    or for inputs does not wait for workers. Returns how many were dropped.
    """
    unserved = set(queues) - capacities().keys()
    types = list(TaskType.objects.filter(on_shutdown="drop").values_list("pk", flat=True))
    if not unserved or not types:
        return 0
    # A claim that is not made by now never will be: the workers are gone.
    places = (Ready.objects, Parked.objects, Inflight.objects.filter(state="dispatched"))
    waiting = [
        row
        for place in places
        for row in place.filter(queue__in=unserved, type_id__in=types).values_list("ordinal", "task_id")
    ]
    return sum(_drop_if_it_waits(task_id) for _, task_id in sorted(set(waiting)))


@again_on_ties
def _drop_if_it_waits(task_id: uuid.UUID) -> bool:
    with one_change():
        task = lock_task(task_id)
        if task.status != Status.QUEUED:
            return False
        drop(task, Reason.SHUTDOWN)
    return True
