"""Comparing the counters of the backlog with what they count, and repairing what has drifted.

A counter is exact as long as everybody who changes a line adds to it. One transaction cannot: the one
that looked for the counter before it was made, and commits after the count that made it. Such a counter
is not *settled* until every transaction that was open when it appeared has ended; meanwhile each
submission counts anew. All others are recounted in turn too, so that no mistake lasts.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from rest.ties import again_on_ties
from tasks.models import Backlog
from tasks.services.ready import recount_backlog

TOGETHER = 20
"""Counters that are recounted in one call."""

EACH_SECONDS = 60
"""How often each counter is recounted at most."""

SEEN = """
SELECT tenant_id, queue, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint
  FROM backlog WHERE NOT settled AND queue <> 'rate'
"""
DUE = """
SELECT tenant_id, queue, queued FROM backlog
 WHERE settled AND queue <> 'rate'
   AND recounted_at < clock_timestamp() - make_interval(secs => %s)
 ORDER BY recounted_at LIMIT %s
"""

Counter = tuple[int, str]

log = structlog.get_logger(__name__)


class Recounter:
    """What one leader knows of the counters that are not settled. Call :meth:`run` now and then."""

    def __init__(self) -> None:
        self._open_until: dict[Counter, int] = {}

    def run(self) -> int:
        """Settle what can be settled and recount what is due; return how many counters were wrong."""
        self._settle()
        with connection.cursor() as cursor:
            cursor.execute(DUE, [EACH_SECONDS, TOGETHER])
            due = cursor.fetchall()
        wrong = 0
        for tenant_id, queue, before in due:
            after = _recount([(tenant_id, queue)])
            # Others submit meanwhile, so only a large step is worth a line.
            if abs(after - before) > TOGETHER:
                log.warning("counter_drifted", tenant=tenant_id, queue=queue, was=before, now=after)
            wrong += after != before
        return wrong

    def _settle(self) -> None:
        """Recount a new counter once all have ended who could not see it.

        Each of them had a number below the first snapshot's ``xmax`` that shows the counter; all have
        ended, and are seen by the count, once ``xmin`` has passed that.
        """
        with connection.cursor() as cursor:
            cursor.execute(SEEN)
            rows = cursor.fetchall()
        known, self._open_until = self._open_until, {}
        for tenant_id, queue, highest, lowest in rows:
            counter = (tenant_id, queue)
            until = known.get(counter, highest)
            if lowest >= until:
                _recount([counter], settled=True)
            else:
                self._open_until[counter] = until


@again_on_ties
def _recount(counters: Iterable[Counter], *, settled: bool | None = None) -> int:
    queued = 0
    for tenant_id, queue in counters:
        with transaction.atomic():
            recount_backlog([(tenant_id, queue)])
            row = Backlog.objects.filter(tenant_id=tenant_id, queue=queue)
            row.update(recounted_at=Now(), **({} if settled is None else {"settled": settled}))
            queued = row.get().queued
    return queued
