"""Lending critical tasks slots of the batch pool: for one message each, and never the other way.

The row in ``inflight`` says whose slot a task has: a worker of that pool can claim it and no other
(:mod:`tasks.services.claim`), while limits go on counting it in its own queue.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from django.db import transaction

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
 ORDER BY dispatched_at LIMIT %(limit)s
"""

log = structlog.get_logger(__name__)


def lend(leader: int, limits: int, chosen: Iterable[Candidate]) -> list[store.Doorbell]:
    """Dispatch critical tasks to the batch pool; otherwise as :func:`store.dispatch`."""
    with transaction.atomic():
        bells = store.dispatch(leader, limits, chosen)
        Inflight.objects.filter(pk__in=[bell.task_id for bell in bells]).update(pool=LENDER)
    return [
        store.Doorbell(bell.task_id, LENDER.value, bell.tenant_id, bell.epoch, bell.token)
        for bell in bells
    ]


def take_back(leader: int, publisher: Publisher, limit: int) -> int:
    """Publish tasks to their own pool that nobody claims where they were lent a slot; return how many.

    Wherever the old message is, it is void then: the lender may have no worker left to take it.
    """
    overdue = store.prepared(OVERDUE, {"limit": limit})
    if overdue:
        with transaction.atomic():
            bells = store.republish(leader, overdue)
            Inflight.objects.filter(pk__in=[bell.task_id for bell in bells]).update(pool=None)
        publisher.forget({str(bell.task_id) for bell in bells})
        publisher.publish(bells)
        log.info("loans_taken_back", count=len(bells))
    return len(overdue)
