"""Whose queue a task gets: the type's, what was asked for and may be, and the operators' rules."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from tasks.models import Estimate, Event, Ready, Route, Task, TaskType
from tasks.selectors import routes
from tasks.services.retry import retry
from tests.tasks.api.work import failed
from tests.tenants.callers import Caller, World

TASKS = "/api/v1/tenants/acme/tasks"
ROUTES = "/api/v1/operator/routes"
DUMMY = {"type": "test.dummy"}
ALL: dict[str, Any] = {"match": {"type": "*"}, "queue": "batch"}


@pytest.fixture
def operator(acme: World) -> Caller:
    return acme.operator()


def rule(operator: Caller, name: str, queue: str, *, position: int | None = None, **match: Any) -> Any:
    body: dict[str, Any] = {"match": match, "queue": queue}
    if position is not None:
        body["position"] = position
    answer = operator.send("PUT", f"{ROUTES}/{name}", body)
    assert answer.status_code in (200, 201), answer.content
    return answer.json()


def queue_of(caller: Caller, **body: Any) -> Any:
    answer = caller.post(TASKS, {**DUMMY, **body})
    assert answer.status_code == 201, answer.content
    return answer.json()["queue"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_asking_for_more_than_the_type_needs_a_scope_and_less_is_everybodys(
    acme: World, dry_run: bool
) -> None:
    poor = acme.token("tasks:write", "tasks:read")
    refused = poor.post(TASKS, {**DUMMY, "queue": "critical", "dry_run": dry_run})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")
    assert refused.json()["required"] == "tasks:raise"
    assert refused.json()["errors"][0]["pointer"] == "/queue"
    assert not Task.objects.exists()
    for queue in (None, "normal", "batch"):
        answer = poor.post(TASKS, {**DUMMY, "queue": queue, "dry_run": dry_run})
        assert answer.status_code == (200 if dry_run else 201)
    # What is the type's own is no more, however urgent.
    assert poor.post(TASKS, {"type": "lint.ruff", "queue": "critical"}).status_code == 201


def test_full_tokens_owners_admins_and_operators_raise_and_members_do_not(acme: World) -> None:
    for caller in (
        acme.token(),
        acme.token("tasks:write", "tasks:raise"),
        acme.user("alice"),
        acme.user("adam"),
        acme.operator(),
    ):
        assert queue_of(caller, queue="critical") == "critical"
    refused = acme.user("mia").post(TASKS, {**DUMMY, "queue": "critical"})
    assert (refused.status_code, refused.json()["required"]) == (403, "tasks:raise")
    # An operator who is a member is still an operator.
    User.objects.filter(username="mia").update(is_staff=True)
    assert queue_of(acme.user("mia"), queue="critical") == "critical"


def test_the_first_rule_that_matches_has_the_last_word_and_the_task_says_so(
    acme: World, operator: Caller
) -> None:
    rule(operator, "slow-teams", "batch", labels={"team": "night*"})
    rule(operator, "lint-first", "critical", type="lint.*")
    rule(operator, "rest", "normal", type="*")
    caller = acme.token("tasks:write", "tasks:read")
    assert queue_of(caller, labels={"team": "nightly"}) == "batch"
    # A rule may raise, too, and lower what was asked for.
    assert queue_of(caller, type="lint.mypy") == "critical"
    assert queue_of(caller, queue="batch") == "normal"
    facts = Event.objects.filter(seq=1).order_by("task_id").values_list("data", flat=True)
    assert [each["routed"] for each in facts] == [
        {"rule": "slow-teams", "asked": "normal"},
        {"rule": "lint-first", "asked": "normal"},
        {"rule": "rest", "asked": "batch"},
    ]
    assert [each["queue"] for each in facts] == ["batch", "critical", "normal"]
    assert list(Ready.objects.order_by("ordinal").values_list("queue", flat=True)) == [
        *("batch", "critical", "normal"),
    ]
    # A rule that would lower it gives nobody the right to ask.
    assert caller.post(TASKS, {**DUMMY, "queue": "critical"}).status_code == 403


def test_a_task_that_no_rule_matched_says_nothing_of_rules(acme: World, operator: Caller) -> None:
    rule(operator, "others", "batch", tenant="other")
    assert queue_of(acme.token()) == "normal"
    assert queue_of(acme.token(), queue="critical") == "critical"
    for data in Event.objects.filter(seq=1).values_list("data", flat=True):
        assert "routed" not in data


def test_rules_go_by_position_then_name_and_a_new_one_is_the_last(acme: World, operator: Caller) -> None:
    rule(operator, "b", "batch", type="*")
    rule(operator, "a", "critical", type="*")
    assert [each["name"] for each in operator.get(ROUTES).json()["results"]] == ["b", "a"]
    assert queue_of(acme.token()) == "batch"
    rule(operator, "a", "critical", position=0, type="*")
    assert [each["name"] for each in operator.get(ROUTES).json()["results"]] == ["a", "b"]
    assert queue_of(acme.token()) == "critical"
    # Replaced without a position it stays where it is.
    assert rule(operator, "a", "normal", type="*")["position"] == 0
    assert operator.send("DELETE", f"{ROUTES}/a").status_code == 204
    assert queue_of(acme.token()) == "batch"


def test_a_rule_by_length_goes_by_the_tenants_runs_then_by_everybodys(
    acme: World, operator: Caller
) -> None:
    rule(operator, "long", "batch", estimated_seconds_over=600)
    rule(operator, "short", "critical", estimated_seconds_under=5)
    dummy = TaskType.objects.get(name="test.dummy").pk
    assert queue_of(acme.token()) == "normal"
    everybody = Estimate.objects.create(type_id=dummy, seconds=601)
    assert queue_of(acme.token()) == "batch"
    Estimate.objects.create(type_id=dummy, tenant_id=acme.acme.pk, seconds=4)
    assert queue_of(acme.token()) == "critical"
    Estimate.objects.filter(pk=everybody.pk).update(tenant_id=acme.other.pk)
    assert queue_of(acme.token()) == "critical"


def test_a_retry_keeps_the_queue_whatever_the_rules_say_now(acme: World, operator: Caller) -> None:
    assert queue_of(acme.token(), queue="batch") == "batch"
    task = failed(Task.objects.get())
    rule(operator, "all", "critical", type="*")
    retry(task.pk, by="user:alice")
    assert Ready.objects.get().queue == "batch"


def test_a_dry_run_is_told_of_the_queue_that_it_would_get(acme: World, operator: Caller) -> None:
    acme.operator().send("POST", "/api/v1/operator/queues/batch/pause", {})
    assert acme.token().post(TASKS, {**DUMMY, "dry_run": True}).json()["would"] == "start"
    rule(operator, "all", "batch", type="*")
    told = acme.token().post(TASKS, {**DUMMY, "dry_run": True}).json()
    assert told["waiting_for"]["detail"] == "The queue batch is paused by an operator."


def test_rules_cost_a_submit_no_statement(acme: World, operator: Caller) -> None:
    caller = acme.token()

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            queue_of(caller)
        return len(queries)

    queue_of(caller)
    without = cost()
    for number in range(20):
        rule(operator, f"rule-{number}", "batch", labels={"n": str(number)})
    assert cost() == without + 1  # they are read once after a change
    assert cost() == without
    rule(operator, "long", "batch", estimated_seconds_over=60)
    queue_of(caller)
    assert cost() == without + 1  # how long it will take
    Route.objects.all().delete()
    assert cost() == without


def test_a_rule_is_made_read_replaced_deleted_and_audited(acme: World, operator: Caller) -> None:
    body = {
        "match": {
            "type": "shell.*",
            "labels": {"nightly": "*"},
            "tenant": "acme",
            "estimated_seconds_over": 60,
            "estimated_seconds_under": 3600,
        },
        "queue": "batch",
        "position": 5,
    }
    path = f"{ROUTES}/nightly-builds"
    made = operator.send("PUT", path, body)
    assert made.status_code == 201
    shown = operator.get(path)
    assert shown.json() == made.json()
    assert {name: shown.json()[name] for name in body} == body
    assert shown.json()["by"] == "operator:root"
    changed = operator.send("PUT", path, ALL, If_Match=shown["ETag"])
    assert (changed.status_code, changed.json()["match"]) == (200, {"type": "*"})
    assert operator.send("PUT", path, ALL, If_Match=shown["ETag"]).status_code == 412
    assert operator.send("DELETE", path, If_Match=shown["ETag"]).status_code == 412
    assert operator.send("DELETE", path, If_Match=changed["ETag"]).status_code == 204
    for answer in (operator.get(path), operator.send("DELETE", path)):
        assert answer.status_code == 404
    entries = AuditEntry.objects.filter(action__startswith="route.").order_by("pk")
    assert [entry.action for entry in entries] == ["route.set", "route.set", "route.delete"]
    assert entries[0].data["match"] == body["match"]
    assert entries[0].tenant_id == acme.acme.pk
    assert entries[2].object == "route:nightly-builds"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"match": None}, "/match"),
        ({"match": {}}, "/match"),
        ({"match": {"type": None, "labels": {}}}, "/match"),
        ({"match": "*"}, "/match"),
        ({"match": {"type": ""}}, "/match/type"),
        ({"match": {"type": "*" * 101}}, "/match/type"),
        ({"match": {"type": "a\x00"}}, "/match/type"),
        ({"match": {"type": "a\u202eb"}}, "/match/type"),
        ({"match": {"type": ["*"]}}, "/match/type"),
        ({"match": {"labels": {"a": 1}}}, "/match/labels/a"),
        ({"match": {"labels": {"a": "*" * 256}}}, "/match/labels/a"),
        ({"match": {"labels": {"a": "\u202e"}}}, "/match/labels/a"),
        ({"match": {"labels": {"a=b": "c"}}}, "/match/labels/a=b"),
        ({"match": {"labels": {str(n): "*" for n in range(33)}}}, "/match/labels"),
        ({"match": {"tenant": "no-such"}}, "/match/tenant"),
        ({"match": {"tenant": "*"}}, "/match/tenant"),
        ({"match": {"estimated_seconds_over": -1}}, "/match/estimated_seconds_over"),
        ({"match": {"estimated_seconds_over": True}}, "/match/estimated_seconds_over"),
        ({"match": {"estimated_seconds_under": 0}}, "/match/estimated_seconds_under"),
        (
            {"match": {"estimated_seconds_over": 9, "estimated_seconds_under": 9}},
            "/match/estimated_seconds_over",
        ),
        ({"match": {"priority": 1}}, "/match/priority"),
        ({"queue": "fast"}, "/queue"),
        ({"queue": None}, "/queue"),
        ({"position": -1}, "/position"),
        ({"position": 1_000_001}, "/position"),
        ({"name": "other"}, "/name"),
    ],
)
def test_a_wrong_rule_is_pointed_at_and_not_kept(
    operator: Caller, change: dict[str, Any], pointer: str
) -> None:
    answer = operator.send("PUT", f"{ROUTES}/wrong", {**ALL, **change})
    assert answer.status_code == 400, answer.content
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert not Route.objects.exists()


@pytest.mark.parametrize("name", ["UPPER", "a_b", "-a", "a" * 51, "%00", "%E2%80%AE", "..%2Fa"])
def test_a_name_that_is_no_slug_is_no_address(operator: Caller, name: str) -> None:
    assert operator.send("PUT", f"{ROUTES}/{name}", ALL).status_code == 404


def test_there_is_an_end_to_rules(operator: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.services.routes.MOST_ROUTES", 2)
    for name in ("a", "b"):
        rule(operator, name, "batch", type="*")
    answer = operator.send("PUT", f"{ROUTES}/c", ALL)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "too_many")
    rule(operator, "b", "normal", type="*")


def test_only_operators_see_and_change_rules(acme: World, operator: Caller) -> None:
    rule(operator, "a", "batch", type="x")
    for caller in (acme.user("alice"), acme.token()):
        for method, path in (
            ("GET", ROUTES),
            ("GET", f"{ROUTES}/a"),
            ("PUT", f"{ROUTES}/a"),
            ("DELETE", f"{ROUTES}/a"),
        ):
            answer = caller.send(method, path, ALL if method == "PUT" else None)
            assert (answer.status_code, answer.json()["required"]) == (403, "operator")
    assert Route.objects.get().type == "x"


def test_another_process_sees_a_changed_rule_with_its_next_submit(acme: World, operator: Caller) -> None:
    rule(operator, "a", "batch", type="*")
    assert queue_of(acme.token()) == "batch"
    known = routes._read
    # As another process would have changed it.
    Route.objects.update(queue="critical")
    assert queue_of(acme.token()) == "critical"
    assert routes._read != known


@pytest.mark.parametrize("tag", ['"1"', "*"])
def test_a_rule_that_is_gone_is_not_made_again_by_who_means_to_change_it(
    acme: World, operator: Caller, tag: str
) -> None:
    path = f"{ROUTES}/gone"
    operator.send("PUT", path, ALL)
    operator.send("DELETE", path)
    refused = operator.send("PUT", path, ALL, If_Match=tag)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert operator.get(path).status_code == 404
    assert operator.send("PUT", path, ALL).status_code == 201
