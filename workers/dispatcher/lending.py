"""Lending critical tasks slots of the batch pool: for one message each, and never the other way.

The row in ``inflight`` says whose slot a task has: a worker of that pool can claim it and no other
(:mod:`tasks.services.claim`), while limits go on counting it in its own queue.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import structlog
from django.db import transaction

from rest.ties import again_on_ties
from tasks.aside import Aside
from tasks.models import Inflight
from tasks.states import Queue
from workers.dispatcher import store
from workers.dispatcher.lanes import Candidate
from workers.dispatcher.publisher import Publisher

LENDER = Queue.BATCH
BORROWER = Queue.CRITICAL

OVERDUE = """
SELECT task_id, epoch FROM inflight
 WHERE pool IS NOT NULL AND state = 'dispatched' AND lease_until < clock_timestamp()
   AND task_id <> ALL(%(but)s::uuid[])
 ORDER BY dispatched_at LIMIT %(limit)s
"""

log = structlog.get_logger(__name__)


@again_on_ties
def lend(leader: int, limits: int, chosen: Sequence[Candidate]) -> list[store.Doorbell]:
    """Dispatch critical tasks to the batch pool; otherwise as :func:`store.dispatch`."""
    with transaction.atomic():
        bells = store.dispatch(leader, limits, chosen)
        Inflight.objects.filter(pk__in=[bell.task_id for bell in bells]).update(pool=LENDER)
    return [
        store.Doorbell(bell.task_id, LENDER.value, bell.tenant_id, bell.epoch, bell.token)
        for bell in bells
    ]


def take_back(
    leader: int, publisher: Publisher, limit: int, aside: Aside[uuid.UUID] | None = None
) -> int:
    """Publish tasks to their own pool that nobody claims where they were lent a slot; return how many.

    Wherever the old message is, it is void then: the lender may have no worker left to take it.
    ``aside`` has those that are to be left alone, and gets those that cannot be published.
    """
    aside = aside or Aside("loan")
    overdue = store.prepared(OVERDUE, {"limit": limit, "but": aside.keys()})
    if not overdue:
        return 0
    bells = aside.together(overdue, lambda row: row[0], lambda rows: _own_again(leader, rows))
    publisher.forget({str(bell.task_id) for bell in bells})
    publisher.publish(bells)
    log.info("loans_taken_back", count=len(bells))
    return len(bells)


@again_on_ties
def _own_again(leader: int, overdue: Sequence[tuple[uuid.UUID, int]]) -> list[store.Doorbell]:
    with transaction.atomic():
        bells = store.republish(leader, overdue)
        Inflight.objects.filter(pk__in=[bell.task_id for bell in bells]).update(pool=None)
    return bells
