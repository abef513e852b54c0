"""Taking tasks out of their lanes that cannot start whatever the lanes' turn, and bringing them back.

A pause may park a million tasks. They come back a few thousand in a round, a share of each lane that has
some, so that no statement holds up the dispatcher, and no tenant's many hold up another's few.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any, NamedTuple

from django.db import connection

from rest.ties import again_on_ties
from workers.dispatcher.lanes import Candidate, Position
from workers.dispatcher.store import NAME, prepared

TOGETHER = 2000
"""Tasks that come back in one statement, at most."""

LANES_TOGETHER = 200
"""Lanes whose tasks come back in one statement: it looks into each of them."""

SENT_BACK = "paused"
"""The reason of those that are parked only until some before them have come back."""

# Should a task be in both places, which nothing of ours does, moving it makes it one.
PARK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM ready r USING led, unnest(%(ids)s::uuid[]) AS chosen(id) WHERE r.task_id = chosen.id
  RETURNING r.*
)
INSERT INTO parked (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version,
                    preemptible, reason)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible, %(reason)s
  FROM gone
ON CONFLICT DO NOTHING
"""

# A loose index scan, as for the lanes with work: one probe for each line of tasks that are parked alike,
# and one for all lines of a type that is held.
LINES = """
WITH RECURSIVE line AS (
  (SELECT type_id, type_version, queue, tenant_id FROM parked WHERE reason = %(reason)s
    ORDER BY type_id, type_version, queue, tenant_id LIMIT 1)
  UNION ALL
  SELECT next.*
    FROM line l
   CROSS JOIN LATERAL (
     SELECT p.type_id, p.type_version, p.queue, p.tenant_id FROM parked p
      WHERE p.reason = %(reason)s
        AND (p.type_id, p.type_version, p.queue, p.tenant_id)
            > (l.type_id, CASE WHEN l.type_id = ANY(%(held)b::int[]) THEN 2147483647
                               ELSE l.type_version END, l.queue, l.tenant_id)
      ORDER BY p.type_id, p.type_version, p.queue, p.tenant_id LIMIT 1) next
)
SELECT type_id, type_version, queue, tenant_id FROM line
"""

# The first of each lane, whatever their types. What is being cancelled is passed over; if it is not
# cancelled in the end, it is found when the lines are looked through again.
BRING_BACK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), first AS (
  SELECT *
    FROM (SELECT p.*, row_number() OVER (PARTITION BY p.queue, p.tenant_id
                                         ORDER BY p.rank, p.ordinal) AS n
            FROM unnest(%(reasons)s::text[], %(types)s::int[], %(versions)s::int[],
                        %(queues)s::text[], %(tenants)s::bigint[])
                 AS line(reason, type_id, type_version, queue, tenant_id)
           CROSS JOIN LATERAL (
             SELECT q.queue, q.tenant_id, q.rank, q.ordinal, q.task_id FROM parked q
              WHERE q.reason = line.reason AND q.type_id = line.type_id
                AND q.type_version = line.type_version AND q.queue = line.queue
                AND q.tenant_id = line.tenant_id
              ORDER BY q.rank, q.ordinal LIMIT %(share)s) p) numbered
   WHERE n <= %(share)s
), locked AS (
  SELECT p.task_id FROM parked p JOIN first ON first.task_id = p.task_id
   WHERE EXISTS (SELECT 1 FROM led) FOR UPDATE OF p SKIP LOCKED
), gone AS (
  DELETE FROM parked p USING locked WHERE p.task_id = locked.task_id RETURNING p.*
), back AS (
  INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version,
                     preemptible)
  SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
  ON CONFLICT DO NOTHING
)
SELECT first.queue, first.tenant_id, count(*)::int, count(gone.task_id)::int,
       (array_agg(first.rank ORDER BY n DESC))[1]::int, (array_agg(first.ordinal ORDER BY n DESC))[1]
  FROM first LEFT JOIN gone ON gone.task_id = first.task_id
 GROUP BY first.queue, first.tenant_id
"""

Lane = tuple[str, int]
"""A queue and a tenant's id."""


class Line(NamedTuple):
    """Tasks of one lane that are parked alike."""

    reason: str
    type_id: int
    type_version: int
    queue: str
    tenant_id: int


@again_on_ties
def park(leader: int, task_ids: Iterable[uuid.UUID], reason: str) -> None:
    """Take tasks, in the order of their ordinals, out of lanes whose turn alone cannot start them."""
    with connection.cursor() as cursor:
        cursor.execute(PARK, {"name": NAME, "leader": leader, "ids": list(task_ids), "reason": reason})


class Returning:
    """Brings parked tasks back that nothing holds any more, in the order of their lanes.

    ``may_return`` says of a line whether that is so; ``held`` gives types of which nothing may return
    for a reason, in whatever line, so that those need not be looked through.
    """

    def __init__(
        self,
        may_return: Callable[[Line], bool],
        held: Callable[[str], Collection[int]] = lambda _reason: (),
    ) -> None:
        self._may_return, self._held = may_return, held
        self._reasons: set[str] = set()
        # In the order of their turns.
        self._lanes: dict[Lane, list[Line]] = {}
        self._upto: dict[Lane, Position] = {}

    def look(self, *reasons: str) -> None:
        """Note that what held tasks for these reasons has changed; :meth:`step` does the rest."""
        self._reasons.update(reasons)
        # What is known was true before the change.
        self._lanes.clear()
        self._upto.clear()

    @property
    def pending(self) -> bool:
        """Whether there may be tasks that are still to come back."""
        return bool(self._reasons)

    def sends_back(self, queue: str, tenant_id: int, candidate: Candidate) -> bool:
        """Return whether a ready task is to be parked, because it comes after some of its lane that are
        still to come back; with them it comes back in its order.

        Of more than :data:`LANES_TOGETHER` lanes that is known once some of the lane have come back.
        """
        upto = self._upto.get((queue, tenant_id))
        if upto is None or (candidate.rank, candidate.ordinal) <= upto:
            return False
        line = Line(SENT_BACK, candidate.type_id, candidate.type_version, queue, tenant_id)
        lines = self._lanes[(queue, tenant_id)]
        if line not in lines:
            lines.append(line)
        self._reasons.add(SENT_BACK)
        return True

    @again_on_ties
    def step(self, leader: int) -> set[Lane]:
        """Bring the next ones back, at most :data:`TOGETHER`; return the lanes that have grown."""
        if self._reasons and not self._lanes:
            self._find()
        if not self._lanes:
            return set()
        taken = list(islice(self._lanes.items(), LANES_TOGETHER))
        lines = [line for _, of_lane in taken for line in of_lane]
        share = max(1, TOGETHER // len(lines))
        values: dict[str, Any] = {
            "name": NAME,
            "leader": leader,
            "reasons": [line.reason for line in lines],
            "types": [line.type_id for line in lines],
            "versions": [line.type_version for line in lines],
            "queues": [line.queue for line in lines],
            "tenants": [line.tenant_id for line in lines],
            "share": share,
        }
        with connection.cursor() as cursor:
            cursor.execute(BRING_BACK, values)
            rows = {(row[0], row[1]): row[2:] for row in cursor.fetchall()}
        for lane, of_lane in taken:
            del self._lanes[lane]
            found, _, rank, ordinal = rows.get(lane, (0, 0, 0, 0))
            if found < share:
                self._upto.pop(lane, None)
            else:
                # There may be more of it: they wait for the others' turn.
                self._upto[lane] = (rank, ordinal)
                self._lanes[lane] = of_lane
        return {lane for lane, (_, moved, _, _) in rows.items() if moved}

    def _find(self) -> None:
        """Look through the lines of parked tasks; without any that may return there is nothing to do."""
        lanes: dict[Lane, list[Line]] = {}
        for reason in self._reasons:
            for row in prepared(LINES, {"reason": reason, "held": list(self._held(reason))}):
                line = Line(reason, *row)
                if self._may_return(line):
                    lanes.setdefault((line.queue, line.tenant_id), []).append(line)
        self._lanes = lanes
        if not lanes:
            self._reasons.clear()
