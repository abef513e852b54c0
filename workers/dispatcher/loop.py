"""The dispatcher's process: wait, decide, commit, publish, and look around.

1. Wait for a wake-up (NOTIFY), or for the next chore. Wake-ups that come while a round is made share the
   next one, and after a round that could send nothing, those of a moment more: whoever submits to full
   queues keeps no processor busy, and a slot that becomes free waits for nobody.
2. Lead, or stand by. A new leader rebuilds everything from ``ready`` and ``inflight``.
3. Serve the lanes that were woken where a slot is known to be free, before anything is looked up.
4. Do what time brings: due tasks, ended leases, unclaimed messages.
5. Look what others have done: limits, workers, what runs, keys, lanes that no wake-up told of.
6. Fill the slots that are free now, the lowest virtual time first: commit in one batch, then publish.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from rest.database_errors import is_away
from rest.ties import is_tie
from tasks import fault_points
from tasks.aside import Aside
from tasks.services.recount import Recounter
from tasks.states import Queue
from tasks.wakeup import CHANNEL, ENDED
from workers.dispatcher import keys, lending, parked, store
from workers.dispatcher.lanes import Candidate, Lanes
from workers.dispatcher.leader import RENEW_SECONDS, Leadership
from workers.dispatcher.lengths import known_lengths
from workers.dispatcher.pace import Chore, Pace
from workers.dispatcher.picture import Picture
from workers.dispatcher.pressure import Pressure
from workers.dispatcher.publisher import Publisher
from workers.dispatcher.reaper import Reaper
from workers.heap import settle_heap

POLL_SECONDS = 0.5
"""How long a lost wake-up can delay a task; longer where a look at all lanes takes long (`CHORES`)."""

AFTER_OUTAGE_SECONDS = 5.0
"""How long after the database is back runs with an ended lease are left alone: supervisors whose
handlers have ended meanwhile still bring their results, and none could renew before."""

CHORES = {
    "renew": Chore(RENEW_SECONDS),
    "time": Chore(0.25),
    "reap": Chore(1.0),
    # The counters of the queued limits are looked after.
    "recount": Chore(1.0),
    "limits": Chore(POLL_SECONDS),
    "workers": Chore(POLL_SECONDS),
    # Parked tasks come back, many of them over several rounds.
    "back": Chore(POLL_SECONDS, 0.5),
    "count": Chore(POLL_SECONDS),
    "keys": Chore(POLL_SECONDS, 0.05),
    "scan": Chore(POLL_SECONDS, 0.02),
    "lanes": Chore(1.0, 0.05),
    "lengths": Chore(1.0, 0.05),
    "tidy": Chore(1.0, 0.05),
}

REST = 4.0
"""How long wake-ups are gathered after a round that sent nothing, in times of its processor time ..."""

LONGEST_REST_SECONDS = 0.03
"""... and at most."""

EVERYWHERE = frozenset({"*", "*:0"})
"""Wake-ups that name no lane: workers, pauses, or too many lanes."""

QUEUES = frozenset(queue.value for queue in Queue)
BATCH = 500
log = structlog.get_logger(__name__)


class Dispatcher:
    """One dispatcher process. :meth:`run` returns after SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._leadership = Leadership(store.NAME)
        self._publisher = Publisher()
        self._stopping = False
        self._reap_from = 0.0
        self._not_sent = Aside[uuid.UUID]("ready task")
        self._knows = False
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
                if is_tie(error) and not is_away(error):
                    # Lost again and again. It leads all the same, and only looks at everything anew,
                    # because what it had picked it has not sent.
                    log.warning("tie_lost_for_good", error=str(error))
                    self._knows = False
                    continue
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
        self._picture = Picture()
        self._pressure = Pressure(self._picture.queues, self._picture.tenants)
        self._pace = Pace(CHORES)
        self._reaper = Reaper()
        self._recounter = Recounter()
        self._everything_changed = False
        self._again = False
        self._rests_until = 0.0
        self._sent_any = False

    # -- one round ----------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._leadership.epoch is None and not self._take_lead():
            return
        if not self._knows:
            self._begin()
        woken = self._wait()
        began, self._sent_any = time.process_time(), False
        self._round(woken)
        rest = 0.0 if self._sent_any else REST * (time.process_time() - began)
        self._rests_until = time.monotonic() + min(LONGEST_REST_SECONDS, rest)

    def _take_lead(self) -> bool:
        if not self._leadership.acquire():
            self._listen(POLL_SECONDS)
            return False
        self._begin()
        # The rows of each batch would have the collector walk through all of Django again and again.
        settle_heap()
        log.info("leading", epoch=self._leadership.epoch)
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        return True

    def _begin(self) -> None:
        """Forget what is in memory, and learn what cannot be looked at later."""
        self._reset()
        self._picture.tenants.recall(known_lengths())
        self._knows = True

    def _wait(self) -> set[str]:
        """Wait for a wake-up or the next chore; return what was named (:mod:`tasks.wakeup`)."""
        until = min(self._picture.patience(), self._pressure.patience, self._pace.patience())
        woken = self._listen(0.0 if self._again else until)
        self._again = False
        rest = self._rests_until - time.monotonic()
        return woken | self._listen(rest, gather=True) if rest > 0 else woken

    def _listen(self, seconds: float, *, gather: bool = False) -> set[str]:
        """Return what a wake-up named, or all that come within the time."""
        connection.ensure_connection()
        woken: set[str] = set()
        notices = connection.connection.notifies(timeout=seconds, stop_after=None if gather else 1)
        for notice in notices:
            woken.update(notice.payload.split())
        return woken

    def _round(self, woken: set[str]) -> None:
        self._picture.tick()
        self._picture.wake(_lanes_of(woken))
        if woken:
            self._dispatch()
        if self._pace.is_due("renew"):
            with self._pace.doing("renew"):
                if not self._leadership.renew():
                    log.warning("leadership_lost")
                    return
        self._do_what_time_brings()
        self._look(woken)
        self._publisher.flush()
        self._dispatch()
        self._if_due("lanes", lambda: self._picture.write_lanes(pressed=self._pressure.told))
        self._if_due("lengths", self._picture.lengths.write)
        self._if_due("tidy", self._picture.tidy)

    def _do_what_time_brings(self) -> None:
        leader = self._leadership.epoch
        if leader is None:
            return
        self._if_due("time", self._reaper.release_due)
        if self._pace.is_due("reap"):
            with self._alone("reap"):
                if time.monotonic() >= self._reap_from:
                    self._reaper.reap_runs()
                self._reaper.ring_again(leader, self._publisher)
        self._if_due("recount", self._recounter.run)

    def _if_due(self, chore: str, act: Callable[[], object]) -> None:
        if self._pace.is_due(chore):
            with self._alone(chore):
                act()

    @contextmanager
    def _alone(self, chore: str) -> Iterator[None]:
        """Do a chore that no decision depends on: whatever else it raises than an outage is told, and
        the others are done, and tasks dispatched, all the same."""
        with self._pace.doing(chore):
            try:
                yield
            except Exception as error:
                if is_away(error):
                    raise
                log.exception("chore_failed", chore=chore)

    def _look(self, woken: set[str]) -> None:
        """Bring the picture up to date: limits, workers, what runs, keys, which lanes have work."""
        leader = self._leadership.epoch
        if leader is None:
            return
        pace, picture = self._pace, self._picture
        picture.tick()
        if woken:
            pace.ask("count", *(("keys",) if woken - {ENDED} else ()))
        if woken & EVERYWHERE:
            self._everything_changed = True
            pace.ask("limits", "workers", "scan")
        if pace.is_due("limits"):
            with pace.doing("limits"):
                if picture.learn_limits():
                    pace.ask("back")
        if picture.turn_windows():
            pace.ask("back")
        if pace.is_due("workers"):
            with pace.doing("workers"):
                if picture.learn_capacities():
                    pace.ask("back")
        if pace.is_due("back"):
            grown: set[tuple[str, int]] = set()
            with self._alone("back"):
                grown = picture.returning.step(leader)
                picture.wake(grown)
            if grown:
                pace.ask("back")
        if pace.is_due("count"):
            with pace.doing("count"):
                picture.count()
            if picture.untidy:
                pace.ask("tidy")
        self._if_due("keys", lambda: picture.wake(keys.let_in(leader)))
        if pace.is_due("scan"):
            with pace.doing("scan"):
                store.forget_plans()
                picture.scan(everything_changed=self._everything_changed)
                self._everything_changed = False

    # -- deciding -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Fill the slots that are free as far as is known."""
        if self._publisher.broker_down:
            return
        for queue, lanes in self._picture.queues.items():
            if queue == lending.LENDER:
                self._lend()
            free = self._picture.free_slots(queue)
            while free > 0:
                moved = self._send_batch(queue, lanes, min(free, BATCH))
                free -= moved
                if not moved:
                    break

    def _lend(self) -> None:
        """Let critical work that has waited too long have slots of batch, before batch work does."""
        picture = self._picture
        borrowing, lending_lanes = (picture.queues[each] for each in (lending.BORROWER, lending.LENDER))
        free = picture.free_slots(lending.LENDER)
        wanted = self._pressure.wanted(
            picture.capacity(lending.BORROWER),
            picture.capacity(lending.LENDER),
            full=picture.free_slots(lending.BORROWER) <= 0,
            idle=free > 0,
            can_start=lambda candidate: not picture.unable(lending.BORROWER, candidate),
        )
        if wanted:
            # What a batch lane lacks to its guaranteed minimum is not lent.
            free -= lending_lanes.owed()
            lent = self._send_batch(borrowing.queue, borrowing, min(wanted, free), lend=True)
            self._pressure.relieve(wanted - lent, max(0, free - lent))

    def _send_batch(self, queue: str, lanes: Lanes, at_most: int, *, lend: bool = False) -> int:
        """Dispatch up to ``at_most`` tasks of one queue; return how many slots were filled."""
        leader = self._leadership.epoch
        if leader is None:
            return 0
        picked = self._choose(leader, queue, lanes, at_most)
        if not picked:
            return 0
        fault_points.reach("in_dispatch")
        send, pool = (lending.lend, lending.LENDER.value) if lend else (store.dispatch, queue)
        bells = self._not_sent.together(
            [candidate for _, candidate in picked],
            lambda candidate: candidate.task_id,
            lambda candidates: send(leader, self._picture.limits, candidates),
        )
        if len(bells) == len(picked):
            self._picture.note_sent(queue, picked, pool)
        else:
            # Cancelled in the meantime, or the limits or the leader have changed: look again at once.
            moved = {bell.task_id for bell in bells}
            self._picture.note_sent(queue, [each for each in picked if each[1].task_id in moved], pool)
            self._picture.take_back(queue, [each for each in picked if each[1].task_id not in moved])
            self._again = True
            self._pace.ask("limits", "renew")
        self._publisher.publish(bells)
        self._sent_any |= bool(bells)
        return len(bells)

    def _choose(
        self, leader: int, queue: str, lanes: Lanes, at_most: int
    ) -> list[tuple[int, Candidate]]:
        """Pick what goes next, and park what cannot start whatever its lane's turn."""
        picture = self._picture
        picked: list[tuple[int, Candidate]] = []
        unable: dict[str, list[Candidate]] = {"no_worker": [], "paused": [], "off_peak": []}
        aside = set(self._not_sent.keys())
        in_hand: set[int] = set()
        to_park = 0
        while len(picked) < at_most and to_park < BATCH:
            choice = lanes.pick()
            if choice is None:
                hungry = lanes.hungry(at_most, in_hand)
                if not hungry:
                    break
                depth = lanes.depth(at_most)
                for tenant_id, rows in store.heads(queue, hungry, depth).items():
                    lanes.feed(tenant_id, rows, complete=len(rows) < depth)
                continue
            tenant_id, candidate = choice
            in_hand.add(tenant_id)
            if candidate.task_id in aside:
                # It cannot be dispatched, and stays where it is.
                lanes.put_back(tenant_id, picture.tenants.seconds(candidate.type_id), keep=True)
                continue
            reason = picture.unable(queue, candidate)
            if not reason and picture.returning.sends_back(queue, tenant_id, candidate):
                reason = parked.SENT_BACK
            if reason:
                to_park += 1
                unable[reason].append(candidate)
                lanes.put_back(tenant_id, picture.tenants.seconds(candidate.type_id), keep=True)
            else:
                picked.append(choice)
        for reason, candidates in unable.items():
            if candidates:
                candidates.sort(key=lambda each: each.ordinal)
                parked.park(leader, [each.task_id for each in candidates], reason)
        return picked


def _lanes_of(woken: set[str]) -> Iterator[tuple[str, int]]:
    """Return the lanes that wake-ups name, as (queue, tenant)."""
    for name in woken:
        queue, _, tenant = name.partition(":")
        if queue in QUEUES and tenant.isdigit():
            yield queue, int(tenant)


def main() -> None:
    """Run a dispatcher until it is told to stop."""
    wrong = fault_points.check_fault_points(settings.SWITCHYARD.fault_points)
    if wrong:
        raise SystemExit(f"SWITCHYARD_FAULT_POINTS names unknown points: {', '.join(wrong)}")
    Dispatcher().run()
