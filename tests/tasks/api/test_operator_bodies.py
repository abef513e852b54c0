"""What operators' actions take as a body: a reason, an empty one or none, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import AuditEntry
from tasks.models import Worker
from tests.tenants.callers import World

OPERATOR = "/api/v1/operator"
ACTIONS = [
    "tenants/acme/pause",
    "tenants/acme/resume",
    "queues/batch/pause",
    "queues/batch/resume",
    "task-types/test.dummy/pause",
    "task-types/test.dummy/resume",
    "workers/{worker}/drain",
]


def path_of(action: str) -> str:
    return f"{OPERATOR}/{action.format(worker=Worker.objects.get(queue='batch').pk)}"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("raw", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_json"),
        (b"[]", "application/json", 400, "not_an_object"),
        (b"reason=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"reasn": "x"}', "application/json", 400, "validation_failed"),
        (b'{"reason": 7}', "application/json", 400, "validation_failed"),
    ],
)
def test_a_wrong_body_is_refused_and_changes_nothing(
    acme: World, action: str, raw: bytes, content_type: str, status: int, code: str
) -> None:
    path = path_of(action)
    operator = acme.operator()
    trail = AuditEntry.objects.count()
    answer = operator.send("POST", path, raw=raw, content_type=content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert AuditEntry.objects.count() == trail


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("body", [None, {}, {"reason": None}])
def test_no_reason_is_needed(acme: World, action: str, body: Any) -> None:
    assert acme.operator().send("POST", path_of(action), body).status_code == 200


@pytest.mark.parametrize("action", [action for action in ACTIONS if "resume" not in action])
def test_a_reason_is_kept_in_the_trail(acme: World, action: str) -> None:
    answer = acme.operator().post(path_of(action), {"reason": "a bad release"})
    assert answer.status_code == 200
    assert AuditEntry.objects.latest("pk").reason == "a bad release"
