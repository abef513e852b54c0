"""Emptying the tables after a test with real transactions.

Django's own flush also empties what migrations stored, and then makes every content type and
permission anew, which takes two thirds of its time. Here these rows stay.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management.color import no_style
from django.db import connection
from django.test import TransactionTestCase

KEPT = {"auth_permission", "django_content_type", "leader", "limits_revision"}
NOBODY_LEADS = "UPDATE leader SET epoch = 0, holder = '', renewed_at = 'epoch'"


def empty(_test: TransactionTestCase) -> None:
    """Empty all tables but those of rows that are always there; nobody leads then."""
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    statements = connection.ops.sql_flush(no_style(), sorted(set(tables) - KEPT))
    connection.ops.execute_sql_flush([*statements, NOBODY_LEADS])


@pytest.fixture(scope="session", autouse=True)
def _tables_are_emptied_by_us() -> Iterator[None]:
    """Let pytest-django, which goes through Django's TransactionTestCase, empty them so."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TransactionTestCase, "_fixture_teardown", empty)
        yield
