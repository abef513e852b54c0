"""A standby takes over within seconds from any leader, and a former one changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from tasks.models import Inflight, Leader, Ready, Worker
from tenants.models import Tenant
from tests.tasks.api.work import publish_types, start_platform, submitted
from workers.dispatcher.leader import Leadership
from workers.dispatcher.loop import Dispatcher

ROOT = Path(__file__).resolve().parents[3]
TAKE_OVER_SECONDS = 5.0

pytestmark = pytest.mark.django_db(transaction=True)

Eventually = Callable[..., None]


@pytest.fixture
def tenant() -> Tenant:
    publish_types()
    start_platform()
    Leader.objects.update(renewed_at="2020-01-01T00:00:00Z")
    return Tenant.objects.create(slug="acme", name="Acme")


@contextmanager
def dispatcher(folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a dispatcher's process on the test database."""
    base, _, options = settings.SWITCHYARD.database_url.partition("?")
    url = f"{base.rpartition('/')[0]}/{connection.settings_dict['NAME']}"
    with (folder / "dispatcher.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "dispatch"],
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": url + (f"?{options}" if options else ""),
                "SWITCHYARD_ROLE": "dispatcher",
                "SWITCHYARD_STATE": str(folder),
                **environment,
            },
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def inflight() -> int:
    """Count what is dispatched, while the workers' machine goes on reporting them."""
    Worker.objects.update(seen_at=Now())
    return Inflight.objects.count()


def led() -> tuple[int, str]:
    row = Leader.objects.get(name="dispatcher")
    return row.epoch, row.holder


def lead_soon(standby: Dispatcher) -> float:
    """Stand by as a dispatcher does until it leads; return after how many seconds it did."""
    began = time.monotonic()
    while not standby._take_lead():
        assert time.monotonic() - began < 2 * TAKE_OVER_SECONDS
    return time.monotonic() - began


def test_a_standby_takes_over_from_a_killed_leader_and_knows_all_that_waits(
    tenant: Tenant, tmp_path: Path, eventually: Eventually
) -> None:
    epoch, _ = led()
    with dispatcher(tmp_path) as leader:
        eventually(lambda: led()[1].endswith(f":{leader.pid}"), seconds=60)
        submitted(tenant)
        eventually(lambda: inflight() == 1, seconds=20)
        leader.send_signal(signal.SIGKILL)
        leader.wait()
        waiting = submitted(tenant)
        standby = Dispatcher()
        assert lead_soon(standby) < TAKE_OVER_SECONDS
        assert led()[0] == epoch + 2
        inflight()
        standby._look({"*"})
        standby._dispatch()
        assert Inflight.objects.filter(pk=waiting.pk).exists()
        standby._resign()


def test_the_commit_of_a_leader_that_slept_is_refused(
    tenant: Tenant, tmp_path: Path, eventually: Eventually
) -> None:
    task = submitted(tenant)
    with dispatcher(tmp_path, SWITCHYARD_FAULT_POINTS="in_dispatch:stop") as leader:
        # It has decided, and stops before it commits.
        stat = Path(f"/proc/{leader.pid}/stat")

        def stopped() -> bool:
            inflight()
            return stat.read_text().rpartition(")")[2].split()[0] == "T"

        eventually(stopped, seconds=60)
        standby = Leadership("dispatcher")
        eventually(standby.acquire, seconds=TAKE_OVER_SECONDS)
        leader.send_signal(signal.SIGCONT)
        # It wakes up, commits what it had decided, and learns that it leads no longer.
        log = tmp_path / "dispatcher.log"
        eventually(lambda: "leadership_lost" in log.read_text(), seconds=20)
        assert Ready.objects.filter(pk=task.pk).exists()
        assert not Inflight.objects.exists()
        assert led() == (standby.epoch, standby.holder)
