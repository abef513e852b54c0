"""An end and what follows from it are one change, which sees whoever was added before it."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from tasks.models import Ready, Task
from tasks.outcomes import Outcome
from tasks.services.finish import finish
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import publish_types, running, start_platform, submitted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lasting() -> Tenant:
    """A tenant whose rows other connections see."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="ends", name="Ends")


def somebody_waits_for_us() -> bool:
    """Whether another session waits for a lock that this one holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )
        return cursor.fetchone() is not None


def test_a_first_child_that_is_added_while_its_parent_ends_is_not_forgotten(
    lasting: Tenant, eventually: Eventually
) -> None:
    """When the end begins to wait for its task's lock, nobody can see yet that there is a child."""
    parent = submitted(lasting)
    claimed = running(parent)
    ends: list[str] = []

    def end() -> None:
        try:
            ends.append(finish(parent.pk, claimed.epoch, Outcome(RunStatus.COMPLETED)))
        finally:
            connection.close()

    ending = threading.Thread(target=end)
    with transaction.atomic():
        child = submitted(lasting, depends_on=(parent.pk,))
        ending.start()
        eventually(somebody_waits_for_us)
    ending.join(30)
    assert ends == ["completed"]
    assert Task.objects.get(pk=child.pk).status == "queued"


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("release_children", Outcome(RunStatus.COMPLETED)),
        ("join_line", Outcome(RunStatus.DROPPED, checkpointed=True)),
    ],
)
def test_an_end_is_not_written_without_what_follows_from_it(
    lasting: Tenant, monkeypatch: pytest.MonkeyPatch, step: str, outcome: Outcome
) -> None:
    """Whoever died between the two would leave tasks that nobody lets go, or starts, any more."""
    parent = submitted(lasting)
    child = submitted(lasting, depends_on=(parent.pk,))
    claimed = running(parent)

    def die(_task: Task) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(f"tasks.services.finish.{step}", die)
        with pytest.raises(SystemExit):
            finish(parent.pk, claimed.epoch, outcome)
    assert Task.objects.get(pk=parent.pk).status == "running"
    finish(parent.pk, claimed.epoch, outcome)
    released = child if step == "release_children" else parent
    assert Ready.objects.filter(pk=released.pk).exists()
