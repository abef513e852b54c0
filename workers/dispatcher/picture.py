"""The picture in memory that decisions are made from, and how it is kept up to date.

What the dispatcher itself sends is noted at once; what others do is read: limits by their revision,
what runs by counting ``inflight``, lanes when they are woken or, if that was lost, by a look everywhere.
Between two counts the picture can only show too many running tasks, never too few, because nobody else
dispatches: it may be late to fill a slot, and never passes a limit.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.clock import database_now
from tasks.selectors.ability import Capacity, capacities
from tasks.states import Queue
from tenants.limits import WINDOWED
from workers.dispatcher import store
from workers.dispatcher.allowances import Tenants
from workers.dispatcher.held_types import HeldTypes
from workers.dispatcher.lanes import Candidate, Lanes
from workers.dispatcher.lengths import Lengths
from workers.dispatcher.parked import Line, Returning

Lane = tuple[int, str]
"""A tenant's id and a queue."""

DEAD_ROWS = 5_000
"""After how many ends ``inflight`` is tidied up; before that PostgreSQL's own clean-up is enough."""

Picked = tuple[int, Candidate]
"""A tenant's id and the task that is next in its lane."""


@dataclass(slots=True)
class _Sent:
    """A dispatched task whose end is still to come; what it was charged for, and since when."""

    task_id: uuid.UUID
    lane: Lane
    type_id: int
    seconds: float
    at: float
    claimed: bool = False


class Picture:
    """Tenants, lanes, what is in flight, and what the workers can take."""

    def __init__(self) -> None:
        self.tenants = Tenants()
        self.queues = {queue.value: Lanes(queue.value, self.tenants) for queue in Queue}
        self.limits = -1
        """The revision of the limits that the lanes obey."""
        self.held = HeldTypes(self.tenants.calendar)
        self.returning = Returning(self._may_return, self._held_for)
        self.lengths = Lengths()
        self._busy = dict.fromkeys(self.queues, 0)
        self._able: Mapping[str, Capacity] = {}
        # By the task's ordinal.
        self._sent: dict[int, _Sent] = {}
        self._counted_at = time.monotonic()
        self._dead_rows = 0
        self._written: dict[Lane, store.LaneState] = {}

    # -- what others have done ----------------------------------------------------------------------

    def tick(self) -> None:
        """Note the time, and bring tenants back who may start a task again."""
        back = self.tenants.tick(time.monotonic())
        if back:
            for lanes in self.queues.values():
                lanes.reconsider(back)

    def wake(self, grown: Iterable[tuple[str, int]]) -> None:
        """Note that lanes (queue, tenant) have new work."""
        for queue, tenant_id in grown:
            self.queues[queue].wake(tenant_id)

    def learn_limits(self) -> bool:
        """Take over limits and pauses; return whether they had changed."""
        revision = store.limits_revision()
        if revision == self.limits:
            return False
        # The number first, then the limits: a change in between makes the next dispatch void.
        self.limits = revision
        self.tenants.set_limits(store.tenant_limits())
        queues = self.held.read()
        in_use = {*self.tenants.windows(), *self.held.windows()}
        self.tenants.calendar.use(in_use, database_now(), time.monotonic())
        for queue, lanes in self.queues.items():
            lanes.paused = queue in queues
            lanes.reconsider()
        self.returning.look("paused", "off_peak")
        return True

    def turn_windows(self) -> bool:
        """Hold and free lanes whose off-peak windows have turned; return whether any windows have."""
        calendar = self.tenants.calendar
        if calendar.wait(time.monotonic()):
            return False
        turned = calendar.turn(database_now(), time.monotonic())
        self.queues[WINDOWED].reconsider(self.tenants.with_windows(turned))
        if turned:
            self.returning.look("paused", "off_peak")
        return bool(turned)

    def patience(self) -> float:
        """Return in how many seconds time alone changes what may start."""
        return min(self.tenants.next_token(), self.tenants.calendar.wait(time.monotonic()))

    def learn_capacities(self) -> bool:
        """Take over what the workers can run; return whether that is something none could before."""
        known, self._able = self._able, capacities()
        fresh = any(
            version > known.get(queue, Capacity()).types.get(each, 0)
            for queue, capacity in self._able.items()
            for each, version in capacity.types.items()
        )
        if fresh:
            self.returning.look("no_worker")
        return fresh

    def capacity(self, queue: str) -> Capacity:
        """Return what the workers of a queue can take."""
        return self._able.get(queue, Capacity())

    def unable(self, queue: str, candidate: Candidate) -> str:
        """Return why a task cannot start whatever its lane's turn, or ""."""
        held = self.held.why(queue, candidate.type_id)
        if held:
            return held
        able = self.capacity(queue).can_run(candidate.type_id, candidate.type_version)
        return "" if able else "no_worker"

    def _may_return(self, line: Line) -> bool:
        if line.reason == "no_worker":
            return self.capacity(line.queue).can_run(line.type_id, line.type_version)
        return line.type_id not in self.held.held_for(line.reason)

    def _held_for(self, reason: str) -> set[int]:
        return set() if reason == "no_worker" else self.held.held_for(reason)

    def free_slots(self, queue: str) -> int:
        """Return how many more tasks the workers of a pool can take; negative if there are too many."""
        return self.capacity(queue).slots - self._busy[queue]

    def scan(self, *, everything_changed: bool) -> None:
        """Look through all lanes that have work."""
        for queue, lanes in self.queues.items():
            look = lanes.wake if everything_changed else lanes.notice
            for tenant_id in store.lanes_with_work(queue):
                look(tenant_id)

    def count(self) -> None:
        """Take over what is in flight, and learn from what has left it since the last count."""
        now = time.monotonic()
        running: dict[Lane, int] = {}
        busy = dict.fromkeys(self.queues, 0)
        before, self._sent = self._sent, {}
        for ordinal, queue, tenant_id, type_id, is_running, task_id, pool in store.inflight():
            lane = (tenant_id, queue)
            running[lane] = running.get(lane, 0) + 1
            busy[pool] += 1
            sent = before.pop(ordinal, None) or _Sent(task_id, lane, type_id, 0.0, now)
            self._sent[ordinal] = sent
            if is_running and not sent.claimed:
                sent.claimed, sent.at = True, now
        self._busy = busy
        self._dead_rows += len(before)
        for sent in before.values():
            self._settle(sent, now)
            self.lengths.note(sent.task_id)
        self._counted_at = now
        changed = self.tenants.set_running(running)
        for tenant_id, queue in changed:
            self.queues[queue].set_running(tenant_id, running.get((tenant_id, queue), 0))
        # A tenant's total holds or frees its lanes in the other queues too.
        shared = {tenant for tenant, _ in changed if self.tenants.limits(tenant).running is not None}
        for lanes in self.queues.values():
            lanes.reconsider(shared)

    @property
    def untidy(self) -> bool:
        """Whether so much has left ``inflight`` that counting it costs more than it should."""
        return self._dead_rows >= DEAD_ROWS

    def tidy(self) -> None:
        """Tidy ``inflight`` up, if it needs that."""
        if self.untidy:
            store.tidy_inflight()
            self._dead_rows = 0

    def _settle(self, sent: _Sent, now: float) -> None:
        """True a lane up: it was charged the estimate, and pays what the run really took."""
        if sent.claimed:
            took = now - sent.at
            self.tenants.learn(sent.type_id, took)
        else:
            # It came and went between two counts, or was cancelled: a guess that teaches nothing.
            took = now - max(sent.at, self._counted_at)
        if sent.seconds:
            tenant_id, queue = sent.lane
            self.queues[queue].true_up(tenant_id, took - sent.seconds)

    # -- what the dispatcher has done ---------------------------------------------------------------

    def note_sent(self, queue: str, picked: Sequence[Picked], pool: str) -> None:
        """Count tasks of a queue that were picked and dispatched, to slots of ``pool``."""
        now = time.monotonic()
        for tenant_id, candidate in picked:
            seconds = self.tenants.seconds(candidate.type_id)
            lane = (tenant_id, queue)
            self._sent[candidate.ordinal] = _Sent(
                candidate.task_id, lane, candidate.type_id, seconds, now
            )
        self._busy[pool] += len(picked)

    def take_back(self, queue: str, picked: Iterable[Picked]) -> None:
        """Uncharge tasks that were picked and could not be dispatched."""
        for tenant_id, candidate in picked:
            self.queues[queue].put_back(tenant_id, self.tenants.seconds(candidate.type_id))

    # -- what is told -------------------------------------------------------------------------------

    def write_lanes(self, *, pressed: str = "") -> None:
        """Write the lanes whose state differs from what was last written.

        ``pressed`` is what there is to say of critical lanes that only wait for a slot.
        """
        changed = []
        for queue, lanes in self.queues.items():
            for lane in lanes.lanes():
                reason, detail = lanes.held_by(lane)
                if queue == Queue.CRITICAL and lane.has_work and not reason:
                    detail = pressed
                state = store.LaneState(lane.tenant_id, queue, lane.running, reason, detail, lane.vtime)
                if self._written.get((lane.tenant_id, queue)) != state:
                    self._written[(lane.tenant_id, queue)] = state
                    changed.append(state)
            for tenant_id in lanes.forget_idle():
                self._written.pop((tenant_id, queue), None)
        if changed:
            store.write_lanes(changed)
