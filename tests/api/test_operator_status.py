"""``/operator/status``: each component, and the whole."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import override_settings

from tasks.models import Leader, PoolMachine, Worker
from tests.tasks.api.work import publish_types, serve, start_platform, submitted
from tests.tenants.callers import World

STATUS = "/api/v1/operator/status"


@pytest.fixture
def platform(world: World) -> World:
    publish_types()
    start_platform()
    return world


def with_setting(settings: Any, **update: str) -> Any:
    """Return the environment with other values, without what it has worked out from the old."""
    changed = settings.SWITCHYARD.model_copy(update=update)
    changed.__dict__.pop("broker", None)
    return changed


def told(world: World) -> tuple[str, dict[str, str], Any]:
    answer = world.operator().get(STATUS)
    assert answer.status_code == 200, answer.content
    body = answer.json()
    return body["status"], {row["name"]: row["status"] for row in body["components"]}, body


def test_all_is_healthy_when_everything_works(platform: World) -> None:
    status, components, body = told(platform)
    assert status == "healthy", body
    assert set(components) == {
        *("database", "broker", "redis", "dispatcher"),
        *("pool critical", "pool normal", "pool batch"),
    }
    assert body["oldest_wait"] is None
    assert all(row["detail"].endswith(".") for row in body["components"])


def test_without_a_dispatcher_the_platform_is_down(platform: World) -> None:
    Leader.objects.update(renewed_at=Now() - timedelta(minutes=1))
    status, components, _ = told(platform)
    assert (status, components["dispatcher"]) == ("down", "down")


def test_one_pool_without_workers_degrades_and_none_at_all_is_down(platform: World) -> None:
    serve("batch", 2, 2)
    Worker.objects.filter(queue="batch").update(status="gone")
    status, components, _ = told(platform)
    assert (status, components["pool batch"]) == ("degraded", "down")
    PoolMachine.objects.all().delete()
    Worker.objects.update(status="lost")
    assert told(platform)[0] == "down"


def test_a_pool_below_its_minimum_is_degraded_and_one_that_grows_is_well(platform: World) -> None:
    serve("batch", 3, 3)
    assert told(platform)[1]["pool batch"] == "degraded"
    serve("normal", 2, 8, target=5)
    assert told(platform)[1]["pool normal"] == "healthy"


def test_a_pool_that_nobody_serves_is_healthy_until_work_waits_for_it(platform: World) -> None:
    Worker.objects.filter(queue="batch").update(status="gone")
    assert told(platform)[1]["pool batch"] == "healthy"
    submitted(platform.acme, queue="batch")
    status, components, body = told(platform)
    assert (status, components["pool batch"]) == ("degraded", "down")
    assert body["oldest_wait"] is not None


def test_a_pool_that_rests_at_0_is_well_and_one_scaled_to_0_is_not(platform: World) -> None:
    Worker.objects.all().update(status="gone")
    row = serve("batch", 0, 4)
    status, components, body = told(platform)
    # Not down: it starts a worker as soon as a task waits.
    assert (status, components["pool batch"]) == ("healthy", "healthy")
    assert "It rests at 0 slots until a task waits." in [row["detail"] for row in body["components"]]
    PoolMachine.objects.filter(pk=row.pk).update(most=0)
    serve("normal", 0, 4)
    status, components, body = told(platform)
    assert (status, components["pool batch"]) == ("degraded", "degraded")
    (sentence,) = (row["detail"] for row in body["components"] if row["name"] == "pool batch")
    assert sentence == "It is scaled to 0: what is submitted waits, 0 now."


@pytest.mark.parametrize(
    ("setting", "component", "whole"),
    [("broker_url", "broker", "down"), ("redis_url", "redis", "degraded")],
)
@pytest.mark.parametrize("away", ["redis://127.0.0.1:1/0", "redis://10.255.255.1:6379/0"])
def test_what_cannot_be_reached_is_down_and_costs_half_a_second(
    platform: World, settings: Any, setting: str, component: str, whole: str, away: str
) -> None:
    changed = with_setting(settings, **{setting: away})
    caller = platform.operator()
    with override_settings(SWITCHYARD=changed):
        began = time.monotonic()
        body = caller.get(STATUS).json()
        assert time.monotonic() - began < 2
    found = {row["name"]: row["status"] for row in body["components"]}
    assert (body["status"], found[component]) == (whole, "down")


def test_an_unreachable_rabbitmq_is_down_too(platform: World, settings: Any) -> None:
    changed = with_setting(settings, broker_url="amqp://a:b@127.0.0.1:1//")
    with override_settings(SWITCHYARD=changed):
        assert told(platform)[1]["broker"] == "down"


def test_members_do_not_see_the_platform(platform: World) -> None:
    assert platform.user("alice").get(STATUS).status_code == 403
    assert platform.token().get(STATUS).status_code == 403
    assert platform.anonymous().get(STATUS).status_code == 401
