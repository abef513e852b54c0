"""What the dispatcher does so that its own questions stay cheap."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import connection
from django.db.utils import ConnectionHandler

from config.databases import databases
from tests.conftest import Eventually
from workers.dispatcher import store
from workers.dispatcher.picture import Picture

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_inflight_table_that_many_have_left_is_tidied_up(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    def vacuums() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_get_vacuum_count('inflight'::regclass)")
            return int(cursor.fetchall()[0][0])

    picture, before = Picture(), vacuums()
    monkeypatch.setattr("workers.dispatcher.picture.DEAD_ROWS", 2)
    picture._dead_rows = 1
    picture.tidy()
    assert vacuums() == before
    picture._dead_rows = 2
    assert picture.untidy
    picture.tidy()
    assert not picture.untidy
    eventually(lambda: vacuums() == before + 1, seconds=5)


def test_a_dispatchers_session_plans_its_questions_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = databases(settings.SWITCHYARD.database_url, role="dispatcher")["default"]
    made["NAME"] = connection.settings_dict["NAME"]
    own = ConnectionHandler({"default": made})["default"]
    monkeypatch.setattr(store, "connection", own)
    try:
        for _ in range(2):
            assert store.unclaimed("normal") == 0
        with own.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements")
            known = [statement for (statement,) in cursor.fetchall()]
        assert len(known) == 1
        assert "FROM inflight" in known[0]
    finally:
        own.close()
