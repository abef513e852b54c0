"""The dispatcher's process: wait, look, decide, commit, publish.

1. Wait for a wake-up (NOTIFY), or for the next poll, which would do alone.
2. Lead, or stand by. A new leader rebuilds everything from ``ready`` and ``inflight``.
3. Do what time brings: due tasks, ended leases, unclaimed messages.
4. Count what runs, read the lanes that have changed, and fill the free slots of each queue, the
   lowest virtual time first.
5. Commit in one batch, then publish.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FrameType

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from tasks import fault_points
from tasks.selectors.ability import Capacity, capacities
from tasks.services.recount import Recounter
from tasks.states import Queue
from tasks.wakeup import CHANNEL
from workers.dispatcher import keys, lending, store
from workers.dispatcher.allowances import Tenants
from workers.dispatcher.lanes import Candidate, Lanes
from workers.dispatcher.leader import RENEW_SECONDS, Leadership
from workers.dispatcher.pressure import Pressure
from workers.dispatcher.publisher import Publisher
from workers.dispatcher.reaper import reap_runs, release_due, ring_again

POLL_SECONDS = 0.5
"""How long a lost wake-up can delay a task."""

AFTER_OUTAGE_SECONDS = 5.0
"""How long after the database is back runs with an ended lease are left alone: supervisors whose
handlers have ended meanwhile still bring their results, and none could renew before."""

RECOUNT_SECONDS = 1.0
"""How often the counters of the queued limits are looked after."""

SCAN_SHARE = 0.05
"""At most this share of the time goes into looking through all lanes for what no wake-up told."""

BATCH = 500
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Sent:
    """A dispatched task whose end is still to come; what it was charged for."""

    lane: tuple[int, str]
    type_id: int
    seconds: float
    claimed_at: float | None = None


class Dispatcher:
    """One dispatcher process. :meth:`run` returns after SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._leadership = Leadership(store.NAME)
        self._publisher = Publisher()
        self._stopping = False
        self._reap_from = 0.0
        self._reset()

    def run(self) -> None:
        """Lead or stand by until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        log.info("dispatcher_started", holder=self._leadership.holder)
        while not self._stopping:
            try:
                self._step()
            except (OperationalError, InterfaceError, psycopg.Error) as error:
                # The database is away or has restarted: nothing in memory can be trusted then.
                log.warning("database_unreachable", error=str(error))
                self._leadership.epoch = None
                self._reap_from = time.monotonic() + AFTER_OUTAGE_SECONDS
                connection.close()
                time.sleep(0.5)
        self._resign()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _resign(self) -> None:
        try:
            if self._leadership.epoch is not None:
                self._leadership.resign()
        except DatabaseError as error:
            log.warning("resign_failed", error=str(error))
        log.info("dispatcher_stopped")

    def _reset(self) -> None:
        self._tenants = Tenants()
        self._queues = {queue.value: Lanes(queue.value, self._tenants) for queue in Queue}
        self._pressure = Pressure(self._queues, self._tenants)
        self._sent: dict[uuid.UUID, _Sent] = {}
        self._limits = -1
        self._paused_types: set[int] = set()
        self._recounter = Recounter()
        self._again = False
        self._written: dict[tuple[int, str], store.LaneState] = {}
        self._types: dict[str, Mapping[int, int]] = {}
        self._due_at = dict.fromkeys(("renew", "time", "reap", "scan", "keys", "recount", "lanes"), 0.0)

    # -- one round ----------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._leadership.epoch is None and not self._take_lead():
            return
        woken = self._wait()
        if self._every("renew", RENEW_SECONDS) and not self._leadership.renew():
            log.warning("leadership_lost")
            return
        self._do_what_time_brings()
        self._look(woken)
        self._publisher.flush()
        self._dispatch()
        if self._every("lanes", 1.0):
            self._write_lanes()

    def _take_lead(self) -> bool:
        if not self._leadership.acquire():
            self._wait()
            return False
        self._reset()
        log.info("leading", epoch=self._leadership.epoch)
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        return True

    def _wait(self) -> set[str]:
        """Wait for a wake-up and return the lanes that it named, as ``queue:tenant``."""
        connection.ensure_connection()
        raw = connection.connection
        woken: set[str] = set()
        patience = min(POLL_SECONDS, self._tenants.next_token(), self._pressure.patience)
        patience = 0.0 if self._again else patience
        self._again = False
        for notice in raw.notifies(timeout=patience, stop_after=1):
            woken.update(notice.payload.split())
        # Whatever else has arrived in the meantime shares this round.
        for notice in raw.notifies(timeout=0):
            woken.update(notice.payload.split())
        return woken

    def _do_what_time_brings(self) -> None:
        leader = self._leadership.epoch
        if leader is None:
            return
        if self._every("time", 0.25):
            release_due()
        if self._every("reap", 1.0):
            if time.monotonic() >= self._reap_from:
                reap_runs()
            ring_again(leader, self._publisher)
        if self._every("recount", RECOUNT_SECONDS):
            self._recounter.run()

    def _look(self, woken: set[str]) -> None:
        """Bring the picture in memory up to date: limits, what runs, which lanes have work."""
        back = self._tenants.tick(time.monotonic())
        self._learn_limits()
        self._count()
        self._let_in(bool(woken))
        for lanes in self._queues.values():
            lanes.reconsider(back)
        everywhere = "*" in woken or "*:0" in woken
        if everywhere or time.monotonic() >= self._due_at["scan"]:
            self._scan(everything_changed=everywhere)
        for name in woken:
            queue, _, tenant = name.partition(":")
            if queue in self._queues and tenant.isdigit():
                self._queues[queue].wake(int(tenant))

    def _learn_limits(self) -> None:
        revision = store.limits_revision()
        if revision != self._limits:
            # The number first, then the limits: a change in between makes the next dispatch void.
            self._limits = revision
            self._tenants.set_limits(store.tenant_limits())
            queues, self._paused_types = store.pauses()
            for queue, lanes in self._queues.items():
                lanes.paused = queue in queues
                lanes.reconsider()
            if self._leadership.epoch is not None:
                self._wake(store.unpause(self._leadership.epoch, self._paused_types))

    def _let_in(self, something_ended: bool) -> None:
        """Let those in whose key has become free; without a wake-up only as often as it costs little."""
        began = time.monotonic()
        leader = self._leadership.epoch
        if leader is None or not (something_ended or began >= self._due_at["keys"]):
            return
        self._wake(keys.let_in(leader))
        now = time.monotonic()
        self._due_at["keys"] = now + max(POLL_SECONDS, (now - began) / SCAN_SHARE)

    def _wake(self, grown: Iterable[tuple[str, int]]) -> None:
        for queue, tenant_id in grown:
            self._queues[queue].wake(tenant_id)

    def _scan(self, *, everything_changed: bool) -> None:
        began = time.monotonic()
        for queue, lanes in self._queues.items():
            for tenant_id in store.lanes_with_work(queue):
                if everything_changed:
                    lanes.wake(tenant_id)
                else:
                    lanes.notice(tenant_id)
        took = time.monotonic() - began
        self._due_at["scan"] = time.monotonic() + max(POLL_SECONDS, took / SCAN_SHARE)

    def _count(self) -> None:
        """Take over what is in flight, and learn from what has left it since the last look."""
        now = time.monotonic()
        running: dict[tuple[int, str], int] = {}
        present = set()
        self._busy_slots = dict.fromkeys(self._queues, 0)
        for row in store.inflight():
            lane = (row.tenant_id, row.queue)
            running[lane] = running.get(lane, 0) + 1
            self._busy_slots[row.pool] += 1
            present.add(row.task_id)
            sent = self._sent.get(row.task_id)
            if sent is None:
                sent = self._sent[row.task_id] = _Sent(lane, row.type_id, 0.0)
            if row.running and sent.claimed_at is None:
                sent.claimed_at = now
        for task_id in self._sent.keys() - present:
            self._settle(self._sent.pop(task_id), now)
        changed = self._tenants.set_running(running)
        for tenant_id, queue in changed:
            self._queues[queue].set_running(tenant_id, running.get((tenant_id, queue), 0))
        # A tenant's total holds or frees its lanes in the other queues too.
        for lanes in self._queues.values():
            lanes.reconsider(tenant_id for tenant_id, _ in changed)

    def _settle(self, sent: _Sent, now: float) -> None:
        """True a lane up: it was charged the estimate, and pays what the run really took."""
        if sent.claimed_at is None:
            return
        took = now - sent.claimed_at
        self._tenants.learn(sent.type_id, took)
        if sent.seconds:
            tenant_id, queue = sent.lane
            self._queues[queue].true_up(tenant_id, took - sent.seconds)

    # -- deciding -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if self._publisher.broker_down:
            return
        able = capacities()
        for queue, lanes in self._queues.items():
            capacity = able.get(queue, Capacity())
            self._notice_types(queue, capacity.types)
            if queue == lending.LENDER:
                self._lend(able)
            free = capacity.slots - self._busy_slots[queue]
            while free > 0:
                moved = self._send_batch(queue, lanes, min(free, BATCH), capacity)
                free -= moved
                if not moved:
                    break

    def _lend(self, able: Mapping[str, Capacity]) -> None:
        """Let critical work that has waited too long have slots of batch, before batch work does."""
        borrowing, lending_lanes = (self._queues[each] for each in (lending.BORROWER, lending.LENDER))
        own, lender = (able.get(each.queue, Capacity()) for each in (borrowing, lending_lanes))
        free = lender.slots - self._busy_slots[lending_lanes.queue]
        wanted = self._pressure.wanted(
            own,
            lender,
            full=self._busy_slots[borrowing.queue] >= own.slots,
            idle=free > 0,
            can_start=lambda candidate: not self._unable(candidate, own),
        )
        if wanted:
            # What a batch lane lacks to its guaranteed minimum is not lent.
            free -= lending_lanes.owed()
            lent = self._send_batch(borrowing.queue, borrowing, min(wanted, free), own, lend=True)
            self._pressure.relieve(wanted - lent, max(0, free - lent))

    def _send_batch(
        self, queue: str, lanes: Lanes, at_most: int, capacity: Capacity, *, lend: bool = False
    ) -> int:
        """Dispatch up to ``at_most`` tasks of one queue; return how many slots were filled."""
        leader = self._leadership.epoch
        if leader is None:
            return 0
        picked: list[tuple[int, Candidate]] = []
        unable: dict[str, list[uuid.UUID]] = {"no_worker": [], "paused": []}
        while len(picked) < at_most and all(len(each) < BATCH for each in unable.values()):
            choice = lanes.pick()
            if choice is None:
                hungry = lanes.hungry(at_most)
                if not hungry:
                    break
                depth = lanes.depth(at_most)
                for tenant_id, rows in store.heads(queue, hungry, depth).items():
                    lanes.feed(tenant_id, rows, complete=len(rows) < depth)
                continue
            reason = self._unable(choice[1], capacity)
            if not reason:
                picked.append(choice)
            else:
                unable[reason].append(choice[1].task_id)
                lanes.put_back(choice[0], self._tenants.seconds(choice[1].type_id), keep=True)
        for reason, task_ids in unable.items():
            if task_ids:
                store.park(leader, task_ids, reason)
        if not picked:
            return 0
        fault_points.reach("in_dispatch")
        send = lending.lend if lend else store.dispatch
        bells = send(leader, self._limits, [candidate for _, candidate in picked])
        self._busy_slots[lending.LENDER if lend else queue] += len(bells)
        self._note_sent(queue, lanes, picked, {bell.task_id for bell in bells})
        self._publisher.publish(bells)
        return len(bells)

    def _unable(self, candidate: Candidate, capacity: Capacity) -> str:
        """Return why a task cannot start whatever its lane's turn, or ""."""
        if candidate.type_id in self._paused_types:
            return "paused"
        able = capacity.can_run(candidate.type_id, candidate.type_version)
        return "" if able else "no_worker"

    def _note_sent(
        self,
        queue: str,
        lanes: Lanes,
        picked: list[tuple[int, Candidate]],
        moved: set[uuid.UUID],
    ) -> None:
        for tenant_id, candidate in picked:
            seconds = self._tenants.seconds(candidate.type_id)
            if candidate.task_id in moved:
                self._sent[candidate.task_id] = _Sent((tenant_id, queue), candidate.type_id, seconds)
            else:
                # Cancelled in the meantime, or the limits have changed: look again at once.
                lanes.put_back(tenant_id, seconds)
                self._again = True

    def _notice_types(self, queue: str, types: Mapping[int, int]) -> None:
        """Bring parked tasks back whose type some worker can run now."""
        leader = self._leadership.epoch
        known = self._types.get(queue, {})
        fresh = {each: version for each, version in types.items() if version > known.get(each, 0)}
        if fresh and leader is not None:
            for tenant_id in store.unpark(leader, queue, fresh):
                self._queues[queue].wake(tenant_id)
        self._types[queue] = types

    # -- telling ------------------------------------------------------------------------------------

    def _write_lanes(self) -> None:
        """Write the lanes whose state differs from what was last written."""
        changed = []
        for queue, lanes in self._queues.items():
            for lane in lanes.lanes():
                reason, detail = lanes.held_by(lane)
                if queue == lending.BORROWER and lane.has_work and not reason:
                    detail = self._pressure.told
                state = store.LaneState(lane.tenant_id, queue, lane.running, reason, detail, lane.vtime)
                if self._written.get((lane.tenant_id, queue)) != state:
                    self._written[(lane.tenant_id, queue)] = state
                    changed.append(state)
            for tenant_id in lanes.forget_idle():
                self._written.pop((tenant_id, queue), None)
        if changed:
            store.write_lanes(changed)

    def _every(self, what: str, seconds: float) -> bool:
        """Return whether ``what`` is due, and if so set when it is due again."""
        now = time.monotonic()
        if now < self._due_at[what]:
            return False
        self._due_at[what] = now + seconds
        return True


def main() -> None:
    """Run a dispatcher until it is told to stop."""
    wrong = fault_points.check_fault_points(settings.SWITCHYARD.fault_points)
    if wrong:
        raise SystemExit(f"SWITCHYARD_FAULT_POINTS names unknown points: {', '.join(wrong)}")
    Dispatcher().run()
