"""Months of history are made and dropped while somebody reads it, and no submission waits for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from tasks.models import Event
from tasks.partitions import drop_history_partitions, ensure_history_partitions
from tenants.models import Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import publish_types, start_platform, submitted

DAY = 24 * 3600.0
WITHIN_SECONDS = 2.0
WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode <> 'RowExclusiveLock'"


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A tenant whose tasks could run."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="acme", name="Acme")


def run(statement: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def months(parent: str) -> list[str]:
    """Return the partitions of a table, by name."""
    children = f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{parent}'::regclass"
    found = run(children)
    return sorted(str(row[0]) for row in found)


def in_a_thread(act: Callable[[], object]) -> threading.Thread:
    def body() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@contextmanager
def read_all_the_time() -> Iterator[None]:
    """Keep a transaction open that has read the history, as a dump of the database does."""
    reading, enough = threading.Event(), threading.Event()

    def read() -> None:
        with transaction.atomic():
            list(Event.objects.values_list("seq")[:1])
            run("SELECT count(*) FROM log_chunk")
            reading.set()
            enough.wait(30)

    thread = in_a_thread(read)
    assert reading.wait(10)
    yield
    enough.set()
    thread.join(30)


def changed_beside(
    tenant: Tenant, change: Callable[[], int], eventually: Eventually
) -> tuple[int, float]:
    """Return what a change of the partitions told beside a reader, and how long a submission took."""
    told: list[int] = []
    with read_all_the_time():
        changing = in_a_thread(lambda: told.append(change()))
        eventually(lambda: run(WAITS) or not changing.is_alive())
        began = time.monotonic()
        run("SET lock_timeout = '5s'")
        submitted(tenant)
        took = time.monotonic() - began
        changing.join(30)
    return told[0], took


def test_a_month_is_made_apart_from_those_who_read_and_write(
    tenant: Tenant, eventually: Eventually
) -> None:
    before = months("event")
    newest = before[-2]  # "event_default" is the last one
    wanted = run(f"SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = '{newest}'")
    run(f"DROP TABLE {newest}")
    made, took = changed_beside(tenant, ensure_history_partitions, eventually)
    assert took < WITHIN_SECONDS
    assert made == 0
    assert newest not in months("event")
    assert ensure_history_partitions() == 1
    assert months("event") == before
    bounds = f"SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = '{newest}'"
    assert run(bounds) == wanted
    # It is as those that were made as partitions: key, feed, defaults, and no constraint left.
    checks = f"SELECT contype FROM pg_constraint WHERE conrelid = '{newest}'::regclass ORDER BY contype"
    assert {row[0] for row in run(checks)} <= {"n", "p"}
    indexes = f"SELECT count(*) FROM pg_index WHERE indrelid = '{newest}'::regclass AND indisvalid"
    attached = f"""
        SELECT count(*) FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
         WHERE x.indrelid = '{newest}'::regclass
    """
    assert (run(indexes), run(attached)) == ([(2,)], [(2,)])
    run(f"INSERT INTO {newest} (task_id, seq, tenant_id, kind) SELECT {floor(newest)}, 1, 1, 'note'")
    assert run(f"SELECT data, txid IS NULL, at IS NULL FROM {newest}") == [("{}", False, False)]


def floor(partition: str) -> str:
    year, month = partition.split("_")[1:]
    return f"uuidv7_floor('{year}-{month}-01Z')"


def test_a_month_is_dropped_when_nobody_reads_it(tenant: Tenant, eventually: Eventually) -> None:
    for parent in ("event", "log_chunk"):
        run(
            f"CREATE TABLE {parent}_2020_01 PARTITION OF {parent} FOR VALUES"
            " FROM (uuidv7_floor('2020-01-01Z')) TO (uuidv7_floor('2020-02-01Z'))"
        )
    try:
        dropped, took = changed_beside(tenant, lambda: drop_history_partitions(DAY), eventually)
        assert took < WITHIN_SECONDS
        assert dropped == 0
        assert drop_history_partitions(DAY) == 2
    finally:
        for parent in ("event", "log_chunk"):
            run(f"DROP TABLE IF EXISTS {parent}_2020_01")
