"""Ties between the dispatcher and those who change the same rows: repeated, and the lead is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from rest import ties
from tasks.models import Inflight, Leader, Parked, Ready, Task
from tenants.models import Tenant
from tests.tasks.api.work import dispatched, submitted
from tests.workers.dispatcher.leading import dispatcher, go_round, tenant
from workers.dispatcher import parked, store
from workers.dispatcher.lanes import FRONT
from workers.dispatcher.loop import Dispatcher

__all__ = ["dispatcher", "tenant"]

WAITED_FOR = """
SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
"""


@contextmanager
def crossed(table: str, first: Task, last: Task) -> Iterator[None]:
    """Lock the row of ``last``, and that of ``first`` once somebody waits for the other."""

    def cross() -> None:
        lock = f"SELECT 1 FROM {table} WHERE task_id = %s FOR UPDATE"
        database = {**settings.DATABASES["default"], "NAME": connection.settings_dict["NAME"]}
        with psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
        ) as other:
            other.execute(lock, [last.pk])
            locked.set()
            while not other.execute(WAITED_FOR).fetchone():
                time.sleep(0.01)
            # Who has begun to wait first looks first whether there is a circle, and is the victim.
            time.sleep(0.2)
            other.execute(lock, [first.pk])
            other.rollback()

    locked = threading.Event()
    crossing = threading.Thread(target=cross)
    crossing.start()
    assert locked.wait(10)
    yield
    crossing.join(30)
    assert not crossing.is_alive()


def run_until(dispatcher: Dispatcher, done: Callable[[], bool]) -> None:
    """Let a dispatcher run as its process does until something is true."""

    class Watched(Dispatcher):
        def _step(self) -> None:
            super()._step()
            self._stopping = done()

    dispatcher.__class__ = Watched
    kept = dispatcher._leadership.epoch
    dispatcher._resign = lambda: None  # type: ignore[method-assign]
    dispatcher.run()
    del dispatcher._resign
    assert dispatcher._leadership.epoch == kept


@pytest.fixture(autouse=True)
def _signals_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher takes no signals of this process."""
    monkeypatch.setattr("signal.signal", lambda *_arguments: None)


@pytest.mark.parametrize("retries", [3, 0], ids=["once", "as often as may be"])
def test_a_batch_that_loses_a_tie_is_sent_by_the_same_leader(
    tenant: Tenant, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setattr(ties, "RETRIES", retries)
    first, last = submitted(tenant), submitted(tenant)
    with crossed("ready", first, last):
        run_until(dispatcher, lambda: Inflight.objects.count() == 2)
    assert not Ready.objects.exists()
    assert [bell.task_id for bell in dispatcher._publisher.bells] == [first.pk, last.pk]  # type: ignore[attr-defined]
    assert Leader.objects.get(name="dispatcher").epoch == dispatcher._leadership.epoch


def test_parking_that_loses_a_tie_is_repeated(tenant: Tenant, dispatcher: Dispatcher) -> None:
    first, last = submitted(tenant), submitted(tenant)
    epoch = dispatcher._leadership.epoch or 0
    with crossed("ready", first, last):
        parked.park(epoch, [first.pk, last.pk], "paused")
    assert Parked.objects.filter(reason="paused").count() == 2


def test_publishing_again_that_loses_a_tie_is_repeated(tenant: Tenant, dispatcher: Dispatcher) -> None:
    first, last = submitted(tenant), submitted(tenant)
    for task in (first, last):
        dispatched(task)
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    with crossed("inflight", first, last):
        go_round(dispatcher)
    assert set(Inflight.objects.values_list("publishes", flat=True)) == {2}
    assert dispatcher._leadership.epoch


def test_a_batch_picked_by_priority_locks_by_age_as_a_bulk_cancel_does(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ties, "RETRIES", 0)
    older, urgent = submitted(tenant), submitted(tenant, priority=5)
    leader = Leader.objects.get(name="dispatcher").epoch
    (lane,) = store.heads("normal", {tenant.pk: FRONT}, 2).values()
    assert [each.task_id for each in lane] == [urgent.pk, older.pk]
    with crossed("ready", first=urgent, last=older):
        bells = store.dispatch(leader, store.limits_revision(), lane)
    # What is most urgent is published first all the same.
    assert [bell.task_id for bell in bells] == [urgent.pk, older.pk]
