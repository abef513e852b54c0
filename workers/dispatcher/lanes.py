"""Which task goes next: start-time fair queueing over lanes, in memory. Plain rules, no Django.

Each lane (a tenant's line in one queue) has a virtual time. Sending one of its tasks moves it on by
``estimated seconds / weight``, charged at dispatch and trued up when the run ends, so fairness is in
worker-seconds and not in numbers of tasks. The eligible lane with the lowest time goes next; lanes
below their guaranteed minimum (tier 0) go before all others (tier 1).

A lane that is empty, at a limit, out of rate or paused is in no heap and costs nothing until an event
brings it back; it then joins at the current clock, so idleness saves up no credit. The heap is keyed by
tenant: however many keys or labels a tenant invents, it has one place in it.

After Goyal, Vin and Cheng, "Start-time Fair Queueing" (1996), with the charge at dispatch of
Kubernetes' Kueue.
"""

from __future__ import annotations

import heapq
import math
import uuid
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.dispatcher.allowances import LaneLimits, TenantLimits, Tenants

STALE_SECONDS = 5.0
"""How long tasks that were read ahead may stand for the front of their lane, if a wake-up is lost."""

MIN_DEPTH, MAX_DEPTH = 16, 200
"""How many tasks of a lane are read ahead: to find its place in the index costs more than to read on
there. 10,000 lanes hold 50 MiB so."""

Position = tuple[int, int]
"""Where in its lane a task stands: its rank and its ordinal."""

FRONT: Position = (-(2**31), 0)
"""Before every task of a lane."""


class Candidate(NamedTuple):
    """A row of ``ready`` that is next in its lane.

    ``place`` is where in the table it stands (PostgreSQL's ``ctid``); what has no place there cannot be
    dispatched.
    """

    task_id: uuid.UUID
    rank: int
    ordinal: int
    type_id: int
    type_version: int = 1
    place: str = "(0,0)"


@dataclass(slots=True, eq=False)
class Lane:
    """One tenant's line in one queue, as far as it is in memory."""

    tenant_id: int
    whole: TenantLimits
    own: LaneLimits
    buffer: deque[Candidate] = field(default_factory=deque)
    maybe_more: bool = True
    running: int = 0
    vtime: float = 0.0
    ticket: int = 0
    """Which entry of a heap stands for the lane: 0 while none does."""
    place: tuple[int, float] = (1, 0.0)
    fed_at: float = -math.inf
    read_to: Position = FRONT
    """The last task that was read: reading goes on behind it. To begin at the front costs a look at each
    dead row of those that have left, and a transaction that is held open keeps them all its time."""
    front_at: float = -math.inf
    """When it was last read from its front."""
    unlimited: bool = False
    """Whether nothing but a pause of its queue can hold it. Most lanes: they are not asked each time."""

    def obey(self, whole: TenantLimits, queue: str) -> None:
        """Take over what the tenant may have, and the lane of it."""
        self.whole, self.own = whole, whole.lanes.get(queue, _NO_LIMITS)
        self.unlimited = not (whole.holds or self.own.holds)

    @property
    def tier(self) -> int:
        """0 below the guaranteed minimum, 1 above it."""
        return 0 if self.running < self.own.min_running else 1

    @property
    def has_work(self) -> bool:
        """Whether the lane has, or may have, something to send."""
        return bool(self.buffer) or self.maybe_more


class Lanes:
    """All lanes of one queue and the order in which they are served."""

    def __init__(self, queue: str, tenants: Tenants) -> None:
        self.queue = queue
        self.clock = 0.0
        self.paused = False
        self._tenants = tenants
        self._lanes: dict[int, Lane] = {}
        # One heap per tier, of (virtual time, ticket, lane). An entry whose ticket is not its lane's
        # newest is stale and is dropped when it comes up.
        self._heaps: tuple[list[_Entry], list[_Entry]] = ([], [])
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def lanes(self) -> Iterable[Lane]:
        """Return all lanes that are in memory."""
        return self._lanes.values()

    def wake(self, tenant_id: int) -> None:
        """Note that a lane has new work, or that something that held it has changed."""
        lane = self._lanes.get(tenant_id)
        if lane is None:
            lane = Lane(tenant_id, _NO_TENANT_LIMITS, _NO_LIMITS, vtime=self.clock)
            lane.obey(self._tenants.limits(tenant_id), self.queue)
            self._lanes[tenant_id] = lane
            lane.running = self._tenants.running_in(tenant_id, self.queue)
        # What is buffered may no longer be the lane's head: a more urgent task may have come.
        lane.buffer.clear()
        lane.front_at = -math.inf
        lane.maybe_more = True
        self._place(lane)

    def notice(self, tenant_id: int) -> None:
        """Note that the database has work of a lane, which may be known: nothing need have changed.

        What is buffered is read again only when it is old, in case a wake-up was lost that told of a
        more urgent task. Reading all lanes at every look would cost more than deciding.
        """
        lane = self._lanes.get(tenant_id)
        fresh = lane is not None and self._tenants.now - lane.fed_at < STALE_SECONDS
        if lane is None or not (lane.has_work and fresh):
            self.wake(tenant_id)

    def depth(self, at_most: int) -> int:
        """Return how many tasks of a lane to read ahead, where ``at_most`` are to be sent.

        Where many lanes take turns, each of them has few.
        """
        waiting = sum(len(heap) for heap in self._heaps)
        return min(MAX_DEPTH, max(MIN_DEPTH, 2 * at_most // max(1, waiting)))

    def hungry(self, at_most: int, in_hand: Collection[int] = ()) -> dict[int, Position]:
        """Return tenants whose lane is next in turn and must be read from the database first, each with
        the task behind which to read.

        ``in_hand``: tenants whose last picks the database still has in line.
        """
        wanted: dict[int, Position] = {}
        for heap in self._heaps:
            seen: list[_Entry] = []
            while heap and len(wanted) < at_most and len(seen) < 2 * at_most:
                entry = heapq.heappop(heap)
                lane = entry[2]
                if lane.ticket != entry[1]:
                    continue
                seen.append(entry)
                if not lane.buffer:
                    if lane.tenant_id not in in_hand:
                        self._return_to_front(lane)
                    wanted[lane.tenant_id] = lane.read_to
            for entry in seen:
                heapq.heappush(heap, entry)
        return wanted

    def _return_to_front(self, lane: Lane) -> None:
        """Have a lane read from its front now and then, in case a wake-up was lost."""
        if self._tenants.now - lane.front_at >= STALE_SECONDS:
            lane.read_to, lane.front_at = FRONT, self._tenants.now

    def feed(self, tenant_id: int, rows: list[Candidate], *, complete: bool) -> None:
        """Give a lane its next tasks; ``complete`` says that the database holds no more of it."""
        lane = self._lanes.get(tenant_id)
        if lane is None:
            return
        lane.buffer = deque(rows)
        if rows:
            lane.read_to = (rows[-1].rank, rows[-1].ordinal)
        lane.fed_at = self._tenants.now
        lane.maybe_more = not complete
        self._place(lane)

    def pick(self) -> tuple[int, Candidate] | None:
        """Take the task that goes next, or None if no lane that is in memory may send one.

        None with :meth:`hungry` not empty means: read those lanes first.
        """
        lane = self._next()
        if lane is None or not lane.buffer:
            return None
        tier = lane.place[0]
        reached = lane.vtime if tier else min(lane.vtime, self._lowest_of_tier_1())
        if reached > self.clock:
            self.clock = reached
        chosen = lane.buffer.popleft()
        vtime = lane.vtime + self._tenants.seconds(chosen.type_id) / lane.own.weight
        # A lane whose time was behind joins at the clock.
        lane.vtime = vtime = vtime if vtime > self.clock else self.clock
        lane.running += 1
        self._tenants.start(lane.tenant_id, self.queue)
        heap = self._heaps[tier]
        if (lane.buffer or lane.maybe_more) and not self._is_held(lane) and lane.tier == tier:
            # It stays in its heap, further back.
            self._tickets += 1
            lane.ticket = self._tickets
            lane.place = (tier, vtime)
            heapq.heapreplace(heap, (vtime, lane.ticket, lane))
        else:
            heapq.heappop(heap)
            lane.ticket = 0
            self._place(lane)
        return lane.tenant_id, chosen

    def put_back(self, tenant_id: int, seconds: float, *, keep: bool = False) -> None:
        """Uncharge a pick that was not dispatched after all, and read the lane again.

        ``seconds`` is what it was charged.
        ``keep`` leaves what was read of the lane as it is: the task itself will be parked.
        """
        lane = self._lanes.get(tenant_id)
        if lane is None:
            return
        lane.vtime -= seconds / lane.own.weight
        lane.running = max(0, lane.running - 1)
        self._tenants.add_running(tenant_id, self.queue, -1)
        self._tenants.return_token(tenant_id)
        if keep:
            self._place(lane)
        else:
            self.wake(tenant_id)

    def set_running(self, tenant_id: int, running: int) -> None:
        """Set how many tasks of a lane are dispatched or running, as the database says."""
        lane = self._lanes.get(tenant_id)
        if lane is not None and lane.running != running:
            lane.running = running
            self._place(lane)

    def true_up(self, tenant_id: int, seconds: float) -> None:
        """Correct a lane's time by the difference between a run's real and estimated seconds."""
        lane = self._lanes.get(tenant_id)
        if lane is not None:
            lane.vtime = max(0.0, lane.vtime + seconds / lane.own.weight)
            self._place(lane)

    def reconsider(self, tenants: Iterable[int] | None = None) -> None:
        """Place lanes again (all, or those of some tenants) after what may hold them has changed.

        All: their limits may have changed as well.
        """
        if tenants is None:
            for lane in self._lanes.values():
                lane.obey(self._tenants.limits(lane.tenant_id), self.queue)
                self._place(lane)
            return
        for tenant_id in tenants:
            found = self._lanes.get(tenant_id)
            if found is not None:
                self._place(found)

    def forget_idle(self) -> list[int]:
        """Drop lanes that have neither work nor runs; return their tenants."""
        idle = [
            lane.tenant_id
            for lane in self._lanes.values()
            if not lane.has_work and not lane.running and lane.vtime <= self.clock
        ]
        for tenant_id in idle:
            self._lanes.pop(tenant_id).ticket = 0
        return idle

    def has_startable(self) -> bool:
        """Return whether a lane may have work that nothing holds."""
        return self._next() is not None

    def startable(self, at_most: int) -> list[tuple[int, int]]:
        """Return the lanes next in turn that may have work, and how many tasks each may start.

        ``at_most``: of lanes, and of tasks in each. It looks at all lanes that are in memory.
        """
        free = (lane for lane in self._lanes.values() if lane.has_work and not self.held_by(lane)[0])
        first = heapq.nsmallest(at_most, free, key=lambda lane: (lane.tier, lane.vtime))
        return [(lane.tenant_id, min(at_most, self._room(lane))) for lane in first]

    def owed(self) -> int:
        """Return how many more tasks lanes with work must be able to start to have their minimum."""
        return sum(
            lane.own.min_running - lane.running
            for lane in self._lanes.values()
            if lane.tier == 0 and lane.has_work and not self.held_by(lane)[0]
        )

    def standing(self, tenant_id: int) -> tuple[float, LaneLimits]:
        """Return a tenant's virtual time and limits; one without a lane stands at the clock."""
        lane = self._lanes.get(tenant_id)
        if lane is not None:
            return lane.vtime, lane.own
        return self.clock, self._tenants.limits(tenant_id).lanes.get(self.queue, _NO_LIMITS)

    def _room(self, lane: Lane) -> int:
        """Return how many more tasks the limits of a lane and of its tenant let run."""
        own, whole = lane.own.running, lane.whole.running
        room = MAX_DEPTH if own is None else own - lane.running
        return room if whole is None else min(room, whole - self._tenants.running_total(lane.tenant_id))

    def held_by(self, lane: Lane) -> tuple[str, str]:
        """Return why a lane may not send now, as (reason, detail); empty if nothing holds it."""
        limits, own = lane.whole, lane.own
        if self.paused:
            return "paused", f"The queue {self.queue} is paused by an operator."
        if limits.paused:
            return "paused", f"{limits.name} is paused by an operator."
        if own.windows is not None and (until := self._tenants.calendar.closed(own.windows)):
            return "off_peak", f"{self.queue} tasks of {limits.name} are held until {until}."
        if own.running is not None and lane.running >= own.running:
            return (
                "quota",
                f"{limits.name} runs {lane.running} of {own.running} {self.queue} tasks",
            )
        if limits.running is not None:
            total = self._tenants.running_total(lane.tenant_id)
            if total >= limits.running:
                return "quota", f"{limits.name} runs {total} of {limits.running} tasks"
        rate = limits.dispatch_per_second
        if rate is not None and not self._tenants.has_token(lane.tenant_id, rate):
            return "rate", f"{limits.name} may start {rate:g} tasks a second"
        return _FREE

    def _is_held(self, lane: Lane) -> bool:
        return (self.paused or not lane.unlimited) and bool(self.held_by(lane)[0])

    def _next(self) -> Lane | None:
        """Return the lane at the front, which stays there; it may have to be read first."""
        for heap in self._heaps:
            while heap:
                _, ticket, lane = heap[0]
                if lane.ticket != ticket:
                    heapq.heappop(heap)
                # Its tenant may have reached a limit through another queue since it was placed.
                elif lane.tier != lane.place[0] or self._is_held(lane):
                    self._place(lane)
                else:
                    return lane
        return None

    def _lowest_of_tier_1(self) -> float:
        """Return the time up to which the clock may go.

        A lane below its guaranteed minimum is served whatever its time. If its time moved the clock
        beyond the others', a lane that returns would have to wait until all of them have caught up.
        """
        heap = self._heaps[1]
        while heap and heap[0][2].ticket != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def _place(self, lane: Lane) -> None:
        """Put a lane where it belongs now: into one heap once, or nowhere."""
        was_in_heap = lane.ticket != 0
        if not (lane.buffer or lane.maybe_more) or self._is_held(lane):
            lane.ticket = 0
            return
        if not was_in_heap:
            lane.vtime = max(lane.vtime, self.clock)
        place = (lane.tier, lane.vtime)
        if was_in_heap and place == lane.place:
            # Its entry still says so. Another one at each look would let the heap grow for ever.
            return
        lane.place = place
        self._tickets += 1
        lane.ticket = self._tickets
        heap = self._heaps[place[0]]
        heapq.heappush(heap, (lane.vtime, lane.ticket, lane))
        if len(heap) > 2 * len(self._lanes) + 64:
            heap[:] = [entry for entry in heap if entry[2].ticket == entry[1]]
            heapq.heapify(heap)


_NO_LIMITS = LaneLimits()
_NO_TENANT_LIMITS = TenantLimits()
_FREE = ("", "")
_Entry = tuple[float, int, Lane]
