"""How PostgreSQL finds what the dispatcher asks for, when the tables are not what they were."""

from __future__ import annotations

import pytest
from django.db import connection

from tasks.models import Ready
from tenants.models import Tenant
from tests.questions import rows_read
from tests.tasks.api.work import submitted
from tests.workers.dispatcher.test_rounds import (
    SLOTS,
    Heard,
    dispatcher,
    heard,
    run_and_end,
    woken,
)
from workers.dispatcher import store
from workers.dispatcher.lanes import FRONT
from workers.dispatcher.loop import Dispatcher

__all__ = ["dispatcher", "heard"]

LANES, EACH = 300, 100


def test_a_backlog_that_came_after_a_quiet_night_is_not_read_again_for_each_lane(
    dispatcher: Dispatcher, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a dispatcher's own sessions have it, whose statements are prepared.
    monkeypatch.setattr(connection.connection, "prepare_threshold", 1)
    with connection.cursor() as cursor:
        # A plan is made for as many pages as there are, also of what other tests have left.
        cursor.execute("TRUNCATE ready")
        cursor.execute("ANALYZE ready")
        for _ in range(6):  # from the sixth time on, PostgreSQL keeps the plan
            store.lanes_with_work("normal")
            store.heads("normal", {1: FRONT}, 5)
        cursor.execute(
            "INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id,"
            " preemptible)"
            " SELECT gen_random_uuid(), 'normal', 1000000 + lane, 0, n, 1, task_type.id, false"
            " FROM generate_series(1, %s) lane, generate_series(1, %s) n, task_type"
            " WHERE name = 'test.dummy'",
            [LANES, EACH],
        )
    before = rows_read("ready")
    dispatcher._round({"*"})
    assert len(heard.bells) == SLOTS
    assert rows_read("ready") - before < LANES * EACH


def test_a_row_that_stands_elsewhere_now_is_read_again_and_dispatched(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    tasks = [submitted(tenant) for _ in range(SLOTS + 1)]
    dispatcher._round(woken(tenant))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ready SET rank = rank RETURNING task_id")
        assert cursor.fetchall() == [(tasks[-1].pk,)]
    run_and_end(heard.bells[0])
    dispatcher._round({"ended"})  # which names no lane that would be read anew
    assert [bell.task_id for bell in heard.bells] == [task.pk for task in tasks[:SLOTS]]
    dispatcher._round(dispatcher._wait())
    assert [bell.task_id for bell in heard.bells] == [task.pk for task in tasks]


@pytest.mark.parametrize("place", ["(0,0)", "(4294967295,65535)"])
def test_what_has_no_place_in_line_is_not_dispatched(
    tenant: Tenant, dispatcher: Dispatcher, place: str
) -> None:
    submitted(tenant)
    (candidate,) = store.heads("normal", {tenant.pk: FRONT}, 1)[tenant.pk]
    leader = dispatcher._leadership.epoch
    assert leader is not None
    revision = store.limits_revision()
    assert store.dispatch(leader, revision, [candidate._replace(place=place)]) == []
    assert len(store.dispatch(leader, revision, [candidate])) == 1
    assert not Ready.objects.exists()
