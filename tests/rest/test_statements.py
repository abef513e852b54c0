"""Statements with their values written in, several in one question."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)

from rest.statements import BEGIN, COMMIT, Statement, ask, in_questions, outermost
from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)

ADD = Statement(
    "INSERT INTO tenants_tenant (uid, slug, name, paused, network_permitted, is_first, version)"
    " VALUES (gen_random_uuid(), %(slug)s, 'x', false, false, false, 1) RETURNING to_json(slug)"
)
NAMES = Statement("SELECT json_agg(slug ORDER BY slug) FROM tenants_tenant")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "text"),
        (True, "boolean"),
        (-5, "int"),
        (0.25, "float8"),
        ('it\'s \\ "quoted" % ü 🚂', "text"),
        ("'; DROP TABLE tenants_tenant; --", "text"),
        ("%(other)s", "text"),
    ],
)
def test_a_value_arrives_as_it_is(value: object, kind: str) -> None:
    assert ask(Statement(f"SELECT to_json(%(value)s::{kind})").of({"value": value})) == [value]


def test_a_minus_sign_behind_a_minus_sign_is_no_comment() -> None:
    assert ask(Statement("SELECT to_json(7 -%(value)s)").of({"value": -5})) == [12]


def test_ids_and_times_have_their_type() -> None:
    key, at = uuid.UUID(int=7), datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    typed = Statement("SELECT json_build_array(pg_typeof(%(key)s), pg_typeof(%(at)s), %(key)s, %(at)s)")
    (answer,) = ask(typed.of({"key": key, "at": at}))
    assert answer[:3] == ["uuid", "timestamp with time zone", str(key)]
    assert datetime.fromisoformat(answer[3]) == at


def test_json_of_any_size_comes_through_whole() -> None:
    data = {"lines": ["\\n'\"" * 1000] * 200, "deep": {"ü": [1, None, 2.5]}}
    same = Statement("SELECT %(data)s::json")
    assert ask(same.of({"data": json.dumps(data, ensure_ascii=False)})) == [data]


def test_a_nul_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Statement("SELECT %(text)s").of({"text": "a\0b"})


def test_each_statement_has_its_answer_and_none_where_there_is_no_row() -> None:
    nothing = Statement("SELECT to_json(slug) FROM tenants_tenant WHERE slug = %(slug)s")
    assert ask(nothing.of({"slug": "-"}), ADD.of({"slug": "one"}), NAMES.of({})) == [
        None,
        "one",
        ["one"],
    ]


def test_outside_of_a_transaction_they_are_one() -> None:
    with pytest.raises(IntegrityError):
        ask(ADD.of({"slug": "one"}), ADD.of({"slug": "one"}))
    assert not Tenant.objects.exists()
    assert connection.connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_in_djangos_transaction_they_end_with_it() -> None:
    with transaction.atomic():
        ask(ADD.of({"slug": "one"}))
        assert Tenant.objects.get().slug == "one"
        transaction.set_rollback(True)
    assert not Tenant.objects.exists()


def test_a_commit_sent_along_ends_the_transaction_and_django_goes_on() -> None:
    told: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: told.append("after"))
        assert outermost()
        ask(ADD.of({"slug": "one"}), COMMIT)
        # Over with this question: Django's own commit, which comes later, would cost another one.
        assert connection.connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert told == []
    assert told == ["after"]
    with transaction.atomic():
        ask(ADD.of({"slug": "two"}))
        with transaction.atomic():
            assert not outermost()
    assert ask(NAMES.of({})) == [["one", "two"]]


def test_a_transaction_in_questions_is_whole() -> None:
    with in_questions():
        ask(BEGIN, ADD.of({"slug": "one"}))
        ask(ADD.of({"slug": "two"}), COMMIT)
    assert ask(NAMES.of({})) == [["one", "two"]]


def test_a_transaction_in_questions_that_is_left_open_or_fails_leaves_nothing() -> None:
    with in_questions():
        ask(BEGIN, ADD.of({"slug": "one"}))
    assert connection.connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with pytest.raises(IntegrityError), in_questions():
        ask(BEGIN, ADD.of({"slug": "two"}), ADD.of({"slug": "two"}), COMMIT)
    assert ask(NAMES.of({})) == [None]


def test_a_connection_that_is_lost_in_a_transaction_in_questions_is_replaced() -> None:
    with pytest.raises(OperationalError), in_questions():
        ask(BEGIN, ADD.of({"slug": "one"}), b"SELECT pg_terminate_backend(pg_backend_pid())")
    assert ask(NAMES.of({})) == [None]


def test_what_a_session_has_prepared_is_executed_by_name() -> None:
    values: dict[str, object] = {"a": -5, "b": "it's", "c": None, "d": uuid.UUID(int=7)}
    query = """
        SELECT json_build_array(%(a)s::int, %(b)s::text, %(c)s::text, %(d)s::uuid, 7 -%(a)s::int)
         WHERE statement_timestamp() IS NOT NULL
    """
    prepared, other = Statement(query), Statement(query.replace("7 -", "8 -"))
    assert prepared.name != other.name
    with connection.cursor() as cursor:
        cursor.execute(prepared.preparation())
    session = connection.connection
    session.prepared = frozenset({prepared.name.encode()})
    assert prepared.of(values).startswith(b"EXECUTE")
    assert not other.of(values).startswith(b"EXECUTE")
    for statement, last in ((prepared, 12), (other, 13)):
        assert ask(statement.of(values)) == [[-5, "it's", None, str(uuid.UUID(int=7)), last]]


def test_a_session_that_says_nothing_has_nothing_prepared() -> None:
    connection.ensure_connection()
    assert not NAMES.of({}).startswith(b"EXECUTE")
    assert connection.connection.prepared == frozenset()


def test_a_session_that_lasts_prepares_a_statement_once(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    session = connection.connection
    monkeypatch.setattr(session, "lasting", True)
    statement = Statement("SELECT to_json(7 -%(value)s::int)")
    with transaction.atomic():
        assert ask(statement.of({"value": 1})) == [6]
        transaction.set_rollback(True)
    assert ask(statement.of({"value": -1})) == [8]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE name = %s", [statement.name])
        assert cursor.fetchone() == (1,)


def test_what_cannot_be_prepared_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    monkeypatch.setattr(connection.connection, "lasting", True)
    with pytest.raises(ProgrammingError, match="not_there"):
        Statement("SELECT %(value)s FROM not_there").of({"value": 1})
    assert ask(NAMES.of({})) == [None]


def test_a_question_behind_a_commit_may_fail_alone() -> None:
    with transaction.atomic():
        connection.ensure_connection()
        answers = ask(ADD.of({"slug": "acme"}), COMMIT, then=b"SELECT to_json(1/0)")
    assert answers == ["acme", None, None]
    assert ask(NAMES.of({}), then=b"SELECT to_json(7)") == [["acme"], 7]
    # What stands before it has no such excuse.
    with pytest.raises(DataError):
        ask(b"SELECT to_json(1/0)", then=b"SELECT to_json(7)")
    with pytest.raises(IntegrityError), transaction.atomic():
        ask(ADD.of({"slug": "acme"}), COMMIT, then=b"SELECT to_json(7)")
