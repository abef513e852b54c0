"""The dispatcher after an outage of the database: it leads again, and judges nobody too early."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks.models import Inflight, Leader, Worker
from tenants.models import Tenant
from tests.tasks.api.work import publish_types, running, start_platform, submitted
from workers.dispatcher import loop
from workers.dispatcher.loop import Dispatcher

PATIENCE_SECONDS = 2.0


class CutOff(Dispatcher):
    """Loses its connection in its first round, and stops when nothing runs any more."""

    cut_at = 0.0

    def _step(self) -> None:
        if not self.cut_at:
            self.cut_at = time.monotonic()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        super()._step()
        self._stopping = not Inflight.objects.filter(state="running").exists()


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A tenant whose dispatcher has gone and whose workers are silent."""
    publish_types()
    start_platform()
    Leader.objects.update(renewed_at=Now() - timedelta(minutes=1))
    return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture(autouse=True)
def signals_kept() -> Iterator[None]:
    """A dispatcher takes the signals of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_after_an_outage_supervisors_have_time_to_bring_their_ends(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "AFTER_OUTAGE_SECONDS", PATIENCE_SECONDS)
    task = submitted(tenant)
    running(task)
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    Worker.objects.update(seen_at=Now() - timedelta(minutes=1))
    dispatcher = CutOff()
    dispatcher.run()
    took = time.monotonic() - dispatcher.cut_at
    task.refresh_from_db()
    assert (task.status_reason, task.losses) == ("lost", 1)
    assert took >= PATIENCE_SECONDS
