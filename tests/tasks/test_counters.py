"""The counters of the queued limits: exact although transactions overlap, and repaired if they drift."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from tasks.errors import QueuedLimit
from tasks.models import Backlog, Ready
from tasks.services.ready import one_change
from tasks.services.recount import Recounter
from tenants.models import Limit, Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import publish_types, start_platform, submitted


def counter(tenant: Tenant) -> int:
    return Backlog.objects.get(tenant_id=tenant.pk, queue="").queued


@pytest.mark.django_db(transaction=True)
def test_a_submission_older_than_its_tenants_first_counter_is_counted_in_the_end(
    eventually: Eventually,
) -> None:
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="early", name="Early")
    stored, go_on = threading.Event(), threading.Event()

    def early() -> None:
        try:
            with transaction.atomic():
                submitted(tenant)
                stored.set()
                assert go_on.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=early)
    thread.start()
    assert stored.wait(30)
    # The limit, and with it the counter, comes while the early one is not committed.
    Limit.objects.create(tenant=tenant, queue="", queued=3)
    submitted(tenant)
    recounter = Recounter()
    recounter.run()
    recounter.run()
    assert counter(tenant) == 1
    go_on.set()
    thread.join(30)
    # At once for who submits, since the counter is not settled ...
    submitted(tenant)
    assert counter(tenant) == Ready.objects.count() == 3
    with pytest.raises(QueuedLimit):
        submitted(tenant)
    # ... and for good once the leader has seen that nobody is left who could not see it. Transactions of
    # other databases of the server count, too.
    Backlog.objects.update(queued=1)

    def settled() -> bool:
        recounter.run()
        return Backlog.objects.get(queue="").settled

    eventually(settled)
    assert counter(tenant) == 3


@pytest.mark.django_db(transaction=True)
def test_a_counter_that_has_drifted_is_repaired() -> None:
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="drift", name="Drift")
    Limit.objects.create(tenant=tenant, queue="", queued=5)
    submitted(tenant)
    Backlog.objects.update(queued=5, settled=True, recounted_at="2020-01-01T00:00:00Z")
    assert Recounter().run() == 1
    assert counter(tenant) == 1
    submitted(tenant)
    assert counter(tenant) == 2
    assert Recounter().run() == 0


@pytest.mark.django_db(transaction=True)
def test_counters_go_on_counting_while_their_limits_are_lifted() -> None:
    """Submissions without a limit take a way of their own, and the limit may come back."""
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="lifted", name="Lifted")
    for queue in ("", "normal"):
        Limit.objects.create(tenant=tenant, queue=queue, queued=2)
    submitted(tenant)
    Backlog.objects.update(settled=True)
    Limit.objects.update(queued=None)
    submitted(tenant)
    assert list(Backlog.objects.values_list("queued", flat=True)) == [2, 2]
    Limit.objects.filter(queue="").update(queued=2)
    with pytest.raises(QueuedLimit):
        submitted(tenant)


@pytest.mark.django_db(transaction=True)
def test_a_change_inside_another_never_ends_the_transaction() -> None:
    """What it would commit is not all: a run that is given up is ended inside another change."""
    with one_change() as whole, one_change() as part:
        assert (whole, part) == (True, False)
    with transaction.atomic(), one_change() as whole:
        assert whole is False
