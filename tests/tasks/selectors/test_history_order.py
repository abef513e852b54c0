"""Events and log chunks are one list, read at one moment."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks.selectors.history import events_after
from tasks.services.append import Progress, append
from tests.tasks.api.work import lines, running, submitted
from tests.tenants.callers import World

AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
SAID = [Progress(AT, 1, ""), lines(AT, "a"), Progress(AT, 2, ""), lines(AT, "b", first=2)]


def test_both_tables_are_read_by_one_statement(acme: World) -> None:
    # Two statements would see two moments: with an event and a chunk stored in between, the reader
    # would get the chunk without the event, and never ask for that number again.
    task = submitted(acme.acme)
    claimed = running(task)
    append(task.pk, claimed.epoch, SAID)
    with CaptureQueriesContext(connection) as queries:
        seqs = [frame["seq"] for frame in events_after(task.pk, 0)]
    assert seqs == [1, 2, 3, 4, 5, 6]
    assert len(queries) == 1


def test_the_limit_cuts_the_merged_list(acme: World) -> None:
    task = submitted(acme.acme)
    claimed = running(task)
    append(task.pk, claimed.epoch, SAID)
    found = events_after(task.pk, 2, limit=3)
    assert [(frame["seq"], frame["kind"]) for frame in found] == [
        (3, "progress"),
        (4, "log"),
        (5, "progress"),
    ]
