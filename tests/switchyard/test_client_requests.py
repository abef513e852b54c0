"""What the client sends, what it sends again, and what it raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from switchyard.client import (
    Backoff,
    BadRequest,
    Client,
    Forbidden,
    IdempotencyConflict,
    KeyConflict,
    NotAuthenticated,
    NotFound,
    ServerError,
    TaskFinished,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UnusableConnection,
)
from switchyard.client.backoff import retry_after
from tests.switchyard.contract_server import ContractServer

TASK = {"id": "018f", "type": "test.dummy", "queue": "normal", "status": "queued"}


class Network:
    """Answers requests from a list and remembers them; waiting is only noted down."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []
        self.client = Client(
            "http://platform.test", "sy_x", "acme", transport=httpx2.MockTransport(self._answer)
        )
        self.client.transport.sleep = self.pauses.append

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def problem(status: int, code: str, **members: Any) -> httpx2.Response:
    headers = members.pop("headers", {})
    body = {"status": status, "code": code, "detail": "No.", "instance": "req-9", **members}
    return httpx2.Response(status, json=body, headers=headers)


def test_a_submit_sends_only_what_was_given_and_always_a_key() -> None:
    network = Network(httpx2.Response(201, json=TASK))
    task = network.client.submit("test.dummy", {"seconds": 1}, queue="critical", priority=0)
    (request,) = network.requests
    assert request.url.path == "/api/v1/tenants/acme/tasks"
    assert request.headers["authorization"] == "Bearer sy_x"
    assert len(request.headers["idempotency-key"]) == 36
    assert json.loads(request.content) == {
        "type": "test.dummy",
        "params": {"seconds": 1},
        "queue": "critical",
        "priority": 0,
    }
    assert (task.id, task.status, task.ended) == ("018f", "queued", False)


def test_a_submit_whose_answer_was_lost_is_repeated_with_the_same_key() -> None:
    network = Network(
        httpx2.ReadError("cut"), problem(502, "bad_gateway"), httpx2.Response(200, json=TASK)
    )
    network.client.submit("test.dummy")
    assert len(network.requests) == 3
    assert len({request.headers["idempotency-key"] for request in network.requests}) == 1


def test_a_post_without_a_key_is_not_repeated_after_it_may_have_arrived() -> None:
    network = Network(httpx2.ReadError("cut"))
    with pytest.raises(Unreachable):
        network.client.tokens.create("ci", ["*"])
    assert len(network.requests) == 1


def test_a_post_without_a_key_is_repeated_when_it_was_never_sent() -> None:
    network = Network(httpx2.ConnectError("refused"), httpx2.Response(201, json={"token": "sy_1"}))
    assert network.client.tokens.create("ci", ["*"])["token"] == "sy_1"


def test_a_refusal_for_now_is_repeated_when_the_server_says_so() -> None:
    network = Network(
        problem(429, "submit_rate", headers={"Retry-After": "3"}, limit="submit_per_second"),
        httpx2.Response(201, json=TASK),
    )
    network.client.submit("test.dummy")
    assert len(network.pauses) == 1
    assert 3 <= network.pauses[0] <= 3.5


def test_a_server_that_asks_for_a_long_pause_fails_at_once() -> None:
    network = Network(problem(503, "maintenance", headers={"Retry-After": "30"}))
    with pytest.raises(Unavailable) as caught:
        network.client.submit("test.dummy")
    assert caught.value.retry_after == 30
    assert network.pauses == []


def test_pauses_grow_and_end() -> None:
    network = Network(httpx2.ConnectError("refused"))
    with pytest.raises(Unreachable, match=r"Cannot reach http://platform\.test"):
        network.client.task("018f")
    assert len(network.requests) == Backoff().attempts
    assert all(
        low <= pause <= 2 * low for low, pause in zip((0.1, 0.2, 0.4), network.pauses, strict=False)
    )


def test_half_of_a_pause_is_random() -> None:
    pauses = {Backoff(first=1).pause(1) for _ in range(20)}
    assert len(pauses) > 10
    assert all(0.5 <= pause <= 1 for pause in pauses)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("Sat, 21 Nov 2026 10:00:05 GMT", 5),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2026, 11, 21, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "validation_failed", BadRequest),
        (401, "expired", NotAuthenticated),
        (403, "scope_required", Forbidden),
        (404, "not_found", NotFound),
        (409, "key_conflict", KeyConflict),
        (409, "task_finished", TaskFinished),
        (409, "idempotency_conflict", IdempotencyConflict),
        (500, "internal_error", ServerError),
    ],
)
def test_each_problem_has_its_exception(status: int, code: str, kind: type[Exception]) -> None:
    places = [{"pointer": "/params", "code": "required", "detail": "Missing."}]
    network = Network(problem(status, code, errors=places, task="other"))
    with pytest.raises(kind) as caught:
        network.client.submit("test.dummy")
    error: Any = caught.value
    assert (error.status, error.code, error.detail, error.request_id) == (
        status,
        code,
        "No.",
        "req-9",
    )
    assert error.errors[0].pointer == "/params"
    assert len(network.requests) == 1


def test_a_limit_is_named() -> None:
    network = Network(problem(429, "queued_limit", limit="queued", headers={"Retry-After": "99"}))
    with pytest.raises(TooManyRequests) as caught:
        network.client.submit("test.dummy")
    assert (caught.value.limit, caught.value.retry_after) == ("queued", 99)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx2.Response(200, text="<html>hello</html>"), "not JSON"),
        (httpx2.Response(404, text="<html>no</html>"), "does not know this address"),
        (httpx2.Response(301, headers={"Location": "https://other.test/"}), r"https://other\.test/"),
        (httpx2.Response(200, json={"no": "list"}), "no list"),
    ],
)
def test_what_is_no_switchyard_is_told(answer: httpx2.Response, told: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=told):
        list(Network(answer).client.tasks())


@pytest.mark.parametrize(
    "url", ["", "platform.test", "ftp://x", "http://", "https://u:p@x", "http://x?a=1", "http://[x"]
)
def test_an_unusable_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(UnusableConnection):
        Client(url, "sy_x", "acme")


def test_a_token_with_a_line_break_is_refused() -> None:
    with pytest.raises(UnusableConnection):
        Client("http://x", "sy_a\r\nX-Evil: 1", "acme")


def test_ids_and_slugs_cannot_leave_their_place_in_the_path() -> None:
    network = Network(httpx2.Response(200, json=TASK))
    network.client.task("../../operator/tenants?x=1#y")
    raw = network.requests[0].url.raw_path.decode()
    assert raw == "/api/v1/tenants/acme/tasks/..%2F..%2Foperator%2Ftenants%3Fx%3D1%23y"


def test_a_list_is_read_page_by_page_without_following_links_elsewhere(
    client: Client, server: ContractServer
) -> None:
    names = [server.task() for _ in range(450)]
    assert {task.id for task in client.tasks()} == set(names)
    assert sum(path.endswith("/tasks") for _, path, _ in server.requests) == 3
    assert len(list(client.tasks(limit=7))) == 7


def test_filters_are_written_as_the_contract_says() -> None:
    network = Network(httpx2.Response(200, json={"results": [], "next": None}))
    list(network.client.tasks(status=["queued", "running"], consumed=False, type=None))
    assert dict(network.requests[0].url.params) == {
        "status": "queued,running",
        "consumed": "false",
        "limit": "200",
    }


def test_the_only_tenant_of_a_token_need_not_be_said(server: ContractServer) -> None:
    name = server.task()
    with Client(server.url, "sy_contract") as client:
        assert client.task(name).tenant == "demo"


def test_large_inputs_are_uploaded_and_the_task_is_let_go(
    client: Client, server: ContractServer, tmp_path: Path
) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"x" * 3_000_000)
    task = client.submit("shell.command", uploads={"a": b"small", "b": file})
    assert server.bodies[0]["inputs"] == ["a", "b"]
    assert server.uploads == {"a": b"small", "b": b"x" * 3_000_000}
    assert task.status == "queued"


def test_a_dry_run_stores_nothing(client: Client, server: ContractServer) -> None:
    assert client.try_submit("shell.command").would == "start"
    assert server.tasks == {}


def test_a_newer_server_may_say_more_and_an_older_one_less() -> None:
    network = Network(httpx2.Response(200, json={"id": "1", "status": "running", "new": {"x": 1}}))
    task = network.client.task("1")
    assert (task.status, task.raw["new"], task.error) == ("running", {"x": 1}, None)


def test_a_retry_is_told_to_whoever_wants_to_know(
    server: ContractServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    listener: Callable[..., None] = lambda error, pause: told.append((str(error), pause))  # noqa: E731
    server.refusals.append((503, {"Retry-After": "0"}, {"code": "unavailable", "detail": "Wait."}))
    with Client(server.url, "sy_contract", "demo", on_retry=listener) as client:
        client.submit("shell.command")
    assert [text for text, _ in told] == ["Wait."]
