"""Off-peak windows through the API: set by operators, strictly read, shown, and known to a dry run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit.models import AuditEntry
from tasks.models import Lane, Parked, Ready, TaskType
from tenants.limits import WINDOWED
from tenants.models import Limit
from tests.tasks.api.work import publish_types, submitted
from tests.tenants.callers import Caller, World
from tests.tenants.hours import ALWAYS, closed_for_days

TASKS = "/api/v1/tenants/acme/tasks"
LIMITS = "/api/v1/tenants/acme/limits"
TYPE = "/api/v1/operator/task-types/test.dummy/windows"
WINDOWS = "/api/v1/operator/windows"
NIGHT = {"from": "22:00", "to": "06:00"}


@pytest.fixture
def operator(acme: World) -> Caller:
    return acme.operator()


def put_limits(operator: Caller, windows: Any) -> Any:
    return operator.send("PUT", LIMITS, {"queues": {"batch": {"windows": windows}}})


def test_a_tenants_windows_are_a_limit_of_the_batch_queue(acme: World, operator: Caller) -> None:
    days = ["fri", "mon"]
    given = {"zone": "Europe/Berlin", "windows": [{"days": days, **NIGHT}]}
    kept = {"zone": "Europe/Berlin", "windows": [{"days": ["mon", "fri"], **NIGHT}]}
    assert put_limits(operator, given).json()["queues"]["batch"]["windows"] == kept
    # What is left out stays.
    operator.send("PUT", LIMITS, {"queues": {"batch": {"running": 3}}})
    shown = acme.user("bob").get(LIMITS).json()["queues"]
    assert shown["batch"] == {"running": 3, "min_running": None, "queued": None, "windows": kept}
    assert "windows" not in shown["normal"]
    assert AuditEntry.objects.filter(action="limits.change").earliest("pk").data == {
        "queues": {"batch": {"windows": kept}}
    }
    for nothing in (None, {"windows": []}, {"zone": "UTC", "windows": []}):
        put_limits(operator, kept)
        assert put_limits(operator, nothing).json()["queues"]["batch"]["windows"] is None


def test_days_and_zone_that_are_left_out_are_all_days_and_utc(operator: Caller) -> None:
    shown = operator.send("PUT", TYPE, {"windows": [NIGHT]}).json()
    assert shown["zone"] == "UTC"
    assert shown["windows"][0]["days"] == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@pytest.mark.parametrize(
    ("windows", "pointer"),
    [
        ({"zone": "../etc/passwd", "windows": [NIGHT]}, "/zone"),
        ({"zone": "/etc/passwd", "windows": [NIGHT]}, "/zone"),
        ({"zone": "Mars/Phobos", "windows": [NIGHT]}, "/zone"),
        ({"zone": "Europe/Berlin\x00", "windows": [NIGHT]}, "/zone"),
        ({"zone": "Europe/Ber\u202elin", "windows": [NIGHT]}, "/zone"),
        ({"zone": "europe/berlin", "windows": [NIGHT]}, "/zone"),
        ({"zone": "localtime", "windows": [NIGHT]}, "/zone"),
        ({"zone": "E" * 10_000, "windows": [NIGHT]}, "/zone"),
        ({"zone": "", "windows": [NIGHT]}, "/zone"),
        ({"zone": 1, "windows": [NIGHT]}, "/zone"),
        ({"zone": None, "windows": [NIGHT]}, "/zone"),
        ({"zone": "UTC"}, "/windows"),
        ({"zone": "UTC", "windows": None}, "/windows"),
        ({"zone": "UTC", "windows": {"from": "22:00"}}, "/windows"),
        ({"zone": "UTC", "windows": [NIGHT] * 51}, "/windows"),
        ({"zone": "UTC", "windows": [NIGHT, "night"]}, "/windows/1"),
        ({"zone": "UTC", "windows": [{"from": "22:00"}]}, "/windows/0/to"),
        ({"zone": "UTC", "windows": [{"to": "22:00"}]}, "/windows/0/from"),
        ({"zone": "UTC", "windows": [{**NIGHT, "from": "24:00"}]}, "/windows/0/from"),
        ({"zone": "UTC", "windows": [{**NIGHT, "from": "9:00"}]}, "/windows/0/from"),
        ({"zone": "UTC", "windows": [{**NIGHT, "from": "22:60"}]}, "/windows/0/from"),
        ({"zone": "UTC", "windows": [{**NIGHT, "from": "٢٢:00"}]}, "/windows/0/from"),
        ({"zone": "UTC", "windows": [{**NIGHT, "to": "25:00"}]}, "/windows/0/to"),
        ({"zone": "UTC", "windows": [{**NIGHT, "to": 6}]}, "/windows/0/to"),
        ({"zone": "UTC", "windows": [{"from": "06:00", "to": "06:00"}]}, "/windows/0/to"),
        ({"zone": "UTC", "windows": [{**NIGHT, "days": []}]}, "/windows/0/days"),
        ({"zone": "UTC", "windows": [{**NIGHT, "days": ["mon", "mon"]}]}, "/windows/0/days"),
        ({"zone": "UTC", "windows": [{**NIGHT, "days": ["mon", "Monday"]}]}, "/windows/0/days/1"),
        ({"zone": "UTC", "windows": [{**NIGHT, "days": "mon"}]}, "/windows/0/days"),
        ({"zone": "UTC", "windows": [{**NIGHT, "until": "2027"}]}, "/windows/0/until"),
        ({"zone": "UTC", "windows": [], "open": True}, "/open"),
    ],
)
def test_wrong_windows_are_pointed_at_and_change_nothing(
    operator: Caller, windows: Any, pointer: str
) -> None:
    for answer, prefix in (
        (operator.send("PUT", TYPE, windows), ""),
        (put_limits(operator, windows), "/queues/batch/windows"),
    ):
        assert answer.status_code == 400, answer.content
        found = {error["pointer"] for error in answer.json()["errors"]}
        assert prefix + pointer in found
    assert not TaskType.objects.exclude(windows=None).exists()
    assert not Limit.objects.exists()


def test_only_the_batch_queue_has_windows(operator: Caller) -> None:
    answer = operator.send("PUT", LIMITS, {"queues": {"normal": {"windows": ALWAYS}}})
    assert answer.json()["errors"][0]["pointer"] == "/queues/normal/windows"


def test_a_types_windows_are_set_shown_audited_and_taken_away(acme: World, operator: Caller) -> None:
    before = operator.get(TYPE)
    assert before.json() == {
        "subject": "type",
        "name": "test.dummy",
        "zone": "UTC",
        "windows": [],
        "open": True,
        "until": None,
    }
    windows = closed_for_days()
    answer = operator.send("PUT", TYPE, windows, If_Match=before["ETag"])
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["zone"], shown["windows"], shown["open"]) == (*windows.values(), False)
    assert shown["until"] > datetime.now(UTC).isoformat()
    assert operator.send("PUT", TYPE, ALWAYS, If_Match=before["ETag"]).status_code == 412
    # The same again changes nothing, so there is nothing to tell.
    assert operator.send("PUT", TYPE, windows, If_Match=answer["ETag"])["ETag"] == answer["ETag"]
    put_limits(operator, ALWAYS)
    for whose, name, is_open in (("types", "test.dummy", False), ("tenants", "acme", True)):
        (row,) = operator.get(f"{WINDOWS}/{whose}").json()["results"]
        assert (row["subject"] + "s", row["name"], row["open"]) == (whose, name, is_open)
    assert operator.send("PUT", TYPE, {"windows": []}).json()["windows"] == []
    entries = AuditEntry.objects.filter(action="type.windows").order_by("pk")
    assert [entry.data["windows"] for entry in entries] == [windows, None]
    assert entries[0].object == "type:test.dummy"


def test_workers_that_publish_their_types_leave_the_windows_alone(acme: World, operator: Caller) -> None:
    operator.send("PUT", TYPE, ALWAYS)
    publish_types()
    assert operator.get(TYPE).json()["windows"] == ALWAYS["windows"]


def test_only_operators_see_and_set_windows_of_types(acme: World) -> None:
    for caller in (acme.user("alice"), acme.token()):
        paths = (TYPE, f"{WINDOWS}/types", f"{WINDOWS}/tenants")
        for answer in (*map(caller.get, paths), caller.send("PUT", TYPE, ALWAYS)):
            assert (answer.status_code, answer.json()["required"]) == (403, "operator")
        assert put_limits(caller, ALWAYS).status_code == 403


def test_a_type_that_nobody_has_announced_has_no_windows(operator: Caller) -> None:
    path = TYPE.replace("test.dummy", "no.such")
    assert operator.get(path).status_code == 404
    assert operator.send("PUT", path, ALWAYS).status_code == 404


@pytest.mark.parametrize("whose", ["tenant", "type"])
def test_a_dry_run_knows_when_the_window_opens(acme: World, operator: Caller, whose: str) -> None:
    windows = closed_for_days()
    put_limits(operator, windows) if whose == "tenant" else operator.send("PUT", TYPE, windows)

    def dry(**options: Any) -> Any:
        body = {"type": "test.dummy", "dry_run": True, **options}
        return acme.token().post(TASKS, body).json()

    told = dry(queue="batch")
    assert (told["would"], told["waiting_for"]["reason"], told["position"]) == ("wait", "off_peak", 0)
    opens = datetime.fromisoformat(told["estimated_start"])
    assert opens.astimezone().minute == 0
    assert timedelta(days=1) < opens - datetime.now(UTC) < timedelta(days=5)
    # A start that is asked for is not before that either, and one inside the window is.
    early = (opens - timedelta(hours=2)).isoformat()
    inside = (opens + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert dry(queue="batch", scheduled_for=early)["estimated_start"] == told["estimated_start"]
    assert dry(queue="batch", scheduled_for=inside)["estimated_start"] == inside
    # Behind others it is later still; other queues know nothing of it.
    submitted(acme.acme, queue="batch")
    behind = dry(queue="batch")
    assert behind["position"] == 1
    assert behind["estimated_start"] > told["estimated_start"]
    assert dry()["would"] == "start"


def test_where_both_are_closed_it_waits_for_both(acme: World, operator: Caller) -> None:
    put_limits(operator, {"windows": [{"from": "01:00", "to": "03:00"}]})
    operator.send("PUT", TYPE, {"windows": [{"from": "02:00", "to": "04:00"}]})
    body = {"type": "test.dummy", "dry_run": True, "queue": "batch"}
    opens = datetime.fromisoformat(acme.token().post(TASKS, body).json()["estimated_start"])
    assert 2 <= opens.hour < 3


def test_operators_see_what_windows_hold(acme: World, operator: Caller) -> None:
    put_limits(operator, closed_for_days())
    held, parked = submitted(acme.acme, queue=WINDOWED), submitted(acme.other, queue=WINDOWED)
    row = Ready.objects.values().get(pk=parked.pk)
    Ready.objects.filter(pk=parked.pk).delete()
    Parked.objects.create(**row, reason="off_peak")
    Lane.objects.create(tenant_id=acme.acme.pk, queue=WINDOWED, waiting_for="off_peak", detail="later")
    Lane.objects.create(tenant_id=acme.other.pk, queue=WINDOWED)
    queues = operator.get("/api/v1/operator/queues").json()["results"]
    assert [(queue["name"], queue["off_peak"]) for queue in queues] == [
        ("critical", 0),
        ("normal", 0),
        ("batch", 2),
    ]
    lanes = operator.get("/api/v1/operator/lanes").json()["results"]
    by_tenant = {lane["tenant"]: lane["off_peak"] for lane in lanes}
    assert by_tenant["other"] is None
    assert by_tenant["acme"]["open"] is False
    assert by_tenant["acme"]["until"] > datetime.now(UTC).isoformat()
    shown = acme.token().get(f"{TASKS}/{held.pk}").json()["waiting_for"]
    assert (shown["reason"], shown["position"]) == ("off_peak", 0)
