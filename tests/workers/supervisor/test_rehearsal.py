"""What a waiting supervisor does for a task that does not exist leaves nothing behind."""

from __future__ import annotations

import threading

import psycopg
import pytest
from django.db import connection

from tasks.models import Event, Inflight, Run, Task
from tenants.models import Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import dispatched, submitted
from workers.supervisor import forget_ended_session
from workers.supervisor.rehearsal import rehearse


def test_a_rehearsal_changes_nothing(tenant: Tenant, eventually: Eventually) -> None:
    dispatched(submitted(tenant))

    def state() -> list[object]:
        tables = (Task.objects, Run.objects, Event.objects, Inflight.objects)
        return [list(table.order_by("pk").values()) for table in tables]

    before = state()
    rehearse()
    assert state() == before
    eventually(lambda: "lease" not in {each.name for each in threading.enumerate()})


@pytest.mark.django_db(transaction=True)
def test_a_rehearsal_whose_session_has_ended_is_cut_short() -> None:
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    with psycopg.connect(
        connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]
    ) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    rehearse()
    forget_ended_session()
    assert Task.objects.count() == 0
