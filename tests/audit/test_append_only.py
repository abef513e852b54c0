"""The trail can be written and read, and nothing else."""

from __future__ import annotations

import pytest
from django.db import ProgrammingError, connection, transaction

from audit.models import AuditEntry
from audit.services import record
from rest.request_id import answering


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditentry SET actor = 'somebody else'",
        "DELETE FROM audit_auditentry",
        "TRUNCATE audit_auditentry",
    ],
)
def test_the_database_refuses_to_change_the_trail(statement: str) -> None:
    record(actor="user:alice", action="test")
    with connection.cursor() as cursor:
        # The test suite switches this one off for its own cleaning.
        cursor.execute("ALTER TABLE audit_auditentry ENABLE TRIGGER audit_no_truncate")
        with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic():
            cursor.execute(statement)
    assert AuditEntry.objects.get().actor == "user:alice"


@pytest.mark.django_db
def test_an_entry_carries_the_request_that_caused_it() -> None:
    with answering("req-7"):
        entry = record(
            actor="operator:root",
            action="tenant.create",
            object="tenant:acme",
            tenant_id=7,
            reason="new customer",
            data={"name": "Acme"},
        )
    entry.refresh_from_db()
    assert (entry.request_id, entry.tenant_id, entry.reason) == ("req-7", 7, "new customer")
    assert entry.data == {"name": "Acme"}
    assert entry.at.utcoffset() is not None


@pytest.mark.django_db
def test_an_entry_goes_with_the_deed_that_was_rolled_back() -> None:
    with transaction.atomic():
        record(actor="user:alice", action="test")
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()
