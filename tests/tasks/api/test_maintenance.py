"""``/operator/maintenance``: new tasks are refused, what was accepted goes on, reads work."""

from __future__ import annotations

from audit.models import AuditEntry
from tests.tasks.api.work import ended, failed, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"
SWITCH = "/api/v1/operator/maintenance"


def test_operators_stop_and_resume_the_intake(acme: World) -> None:
    before = submitted(acme.acme)
    broken = failed(submitted(acme.acme))
    operator, caller = acme.operator(), acme.token()
    assert operator.get(SWITCH).json() == {"enabled": False, "since": None, "by": None, "reason": None}
    on = operator.send("PUT", SWITCH, {"enabled": True, "reason": "new disks"})
    assert on.status_code == 200, on.content
    assert (on.json()["enabled"], on.json()["by"], on.json()["reason"]) == (
        True,
        "operator:root",
        "new disks",
    )
    for body in ({"type": "test.dummy"}, {"type": "test.dummy", "dry_run": True}, {"type": "no.such"}):
        refused = caller.post(TASKS, body)
        assert (refused.status_code, refused.json()["code"]) == (503, "maintenance")
        assert int(refused.headers["Retry-After"]) > 0
    assert caller.get(TASKS).status_code == 200
    assert caller.get(f"{TASKS}/{before.pk}").json()["status"] == "queued"
    assert ended(before).status == "completed"
    assert caller.post(f"{TASKS}/{broken.pk}/retry", {}).status_code == 200
    again = operator.send("PUT", SWITCH, {"enabled": True, "reason": "me too"}).json()
    assert again == on.json()
    off = operator.send("PUT", SWITCH, {"enabled": False}).json()
    assert off["enabled"] is False
    assert caller.post(TASKS, {"type": "test.dummy"}).status_code == 201
    deeds = AuditEntry.objects.filter(action__startswith="maintenance.").order_by("id")
    assert [deed.action for deed in deeds] == ["maintenance.on", "maintenance.off"]


def test_only_operators_may(acme: World) -> None:
    for caller in (acme.token(), acme.user("alice")):
        assert caller.send("PUT", SWITCH, {"enabled": True}).status_code == 403
        assert caller.get(SWITCH).status_code == 403
    for body in ({}, {"enabled": "yes"}, {"enabled": True, "for": 3}):
        assert acme.operator().send("PUT", SWITCH, body).status_code == 400


def test_who_has_not_seen_the_last_change_changes_nothing(acme: World) -> None:
    operator = acme.operator()
    seen = operator.get(SWITCH)["ETag"]
    on = operator.send("PUT", SWITCH, {"enabled": True, "reason": "new disks"}, If_Match=seen)
    assert (on.status_code, on["ETag"]) == (200, operator.get(SWITCH)["ETag"])
    for body in ({"enabled": True}, {"enabled": False}):
        stale = operator.send("PUT", SWITCH, body, If_Match=seen)
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert operator.get(SWITCH).json() == on.json()
    off = operator.send("PUT", SWITCH, {"enabled": False}, If_Match=on["ETag"])
    assert (off.status_code, off["ETag"]) == (200, seen)
    again = operator.send("PUT", SWITCH, {"enabled": True})
    assert again["ETag"] not in (seen, on["ETag"])
