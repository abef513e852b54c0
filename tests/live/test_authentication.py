"""Who may open a socket, with what, and for how long."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.test import Client
from websockets.exceptions import InvalidStatus

from tenants.actor import SYSTEM
from tenants.models import Membership
from tenants.services import token_revoke
from tests.live.scene import (
    Job,
    Web,
    close_code,
    dial,
    hear,
    submitted,
    task_path,
    token_of,
)
from tests.tenants.callers import World


@pytest.fixture
def job(lasting_world: World) -> Job:
    """A running task of acme."""
    return submitted(lasting_world.acme).run()


def cookie(world: World, name: str) -> dict[str, str]:
    """Return the header with which the browser of a logged-in user comes."""
    client: Client = world.user(name).client
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={key}"}


def ticket_for(web: Web, path: str, headers: dict[str, str]) -> httpx2.Response:
    return httpx2.post(
        f"{web.url}/api/v1/tenants/acme/ws-ticket", json={"path": path}, headers=headers, trust_env=False
    )


def test_a_token_in_the_header_opens(web: Web, job: Job, token: str) -> None:
    with dial(web, task_path(job), token) as client:
        assert hear(client)["kind"] == "snapshot"
        assert client.subprotocol is None


def test_a_token_in_the_subprotocols_opens_and_is_not_echoed(web: Web, job: Job, token: str) -> None:
    with dial(web, task_path(job), subprotocols=["bearer", token]) as client:
        assert client.subprotocol == "bearer"
        assert hear(client)["kind"] == "snapshot"


@pytest.mark.parametrize("given", [None, "nonsense", "sy_" + "x" * 47])
def test_no_valid_token_is_4401(web: Web, job: Job, given: str | None) -> None:
    with dial(web, task_path(job), given) as client:
        assert close_code(client) == 4401


@pytest.mark.parametrize(
    "query", ["token=hush", "ticket=hush", "access_token=hush", "after=0&x=sy_hush"]
)
def test_a_secret_in_the_address_is_4401(web: Web, job: Job, token: str, query: str) -> None:
    with dial(web, f"{task_path(job)}?{query}", token) as client:
        assert close_code(client) == 4401
    assert "hush" not in web.log.read_text()


def test_an_unknown_parameter_is_4400(web: Web, job: Job, token: str) -> None:
    with dial(web, f"{task_path(job)}?before=3", token) as client:
        assert close_code(client) == 4400


def test_what_is_not_there_for_the_caller_is_4404(
    web: Web, lasting_world: World, job: Job, token: str
) -> None:
    foreign = submitted(lasting_world.other)
    _, reads_nothing = token_of(lasting_world.acme, "kv:read")
    for path, raw in (
        (task_path(foreign), token),
        (task_path(foreign, tenant="other"), token),
        (task_path(job, tenant="nobody"), token),
        (task_path(job), reads_nothing),
        (f"/ws/v1/tenants/acme/tasks/{'0' * 8}-0000-0000-0000-{'0' * 12}", token),
    ):
        with dial(web, path, raw) as client:
            assert close_code(client) == 4404


@pytest.mark.parametrize(
    "path", ["/", "/ws", "/ws/v1/tenants/acme/tasks/not-an-id", "/ws/v1/tenants/acme/feed/", "/ws/v2/x"]
)
def test_an_unknown_address_is_4404_for_sockets_and_404_for_the_rest(web: Web, path: str) -> None:
    with dial(web, path) as client:
        assert close_code(client) == 4404
    if path != "/":
        answer = httpx2.get(web.url + path, trust_env=False)
        assert answer.status_code == 404
        if path.startswith("/ws/"):
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_session_opens_from_our_own_pages(web: Web, lasting_world: World, job: Job) -> None:
    for origin in (f"http://127.0.0.1:{web.port}", "http://testserver"):
        with dial(web, task_path(job), headers=cookie(lasting_world, "bob"), origin=origin) as client:
            assert hear(client)["kind"] == "snapshot"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "https://evil.example",
        "http://testserver.evil.com",
        "http://sub.testserver",
        "https://testserver",
        "http://testserver:8443",
        "http://127.0.0.1",
    ],
)
def test_a_session_from_elsewhere_is_refused_and_a_token_is_not(
    web: Web, lasting_world: World, job: Job, token: str, origin: str | None
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        with dial(web, task_path(job), headers=cookie(lasting_world, "bob"), origin=origin):
            pass
    assert refused.value.response.status_code == 403
    with dial(web, task_path(job), token, origin=origin) as client:
        assert hear(client)["kind"] == "snapshot"


@pytest.mark.parametrize(
    "shown",
    [
        {"subprotocols": ["bearer"]},
        {"subprotocols": ["ticket"]},
        {"subprotocols": ["chat", "bearer"]},
        {"extra": {"Authorization": ""}},
    ],
)
def test_naming_a_credential_without_showing_one_lets_no_foreign_page_in(
    web: Web, lasting_world: World, job: Job, shown: dict[str, Any]
) -> None:
    headers = {**cookie(lasting_world, "bob"), **shown.get("extra", {})}
    options = {"headers": headers, "subprotocols": shown.get("subprotocols")}
    with pytest.raises(InvalidStatus) as refused:
        with dial(web, task_path(job), origin="https://evil.example", **options):
            pass
    assert refused.value.response.status_code == 403
    with dial(web, task_path(job), origin="http://testserver", **options) as client:
        assert hear(client)["kind"] == "snapshot"


def test_a_host_of_somebody_else_makes_no_page_ours(web: Web, lasting_world: World, job: Job) -> None:
    headers = {**cookie(lasting_world, "bob"), "Host": "evil.example"}
    with pytest.raises(InvalidStatus):
        with dial(web, task_path(job), headers=headers, origin="http://evil.example"):
            pass


def test_a_session_of_a_stranger_is_4404(web: Web, lasting_world: World, job: Job) -> None:
    headers = cookie(lasting_world, "carol")
    with dial(web, task_path(job), headers=headers, origin="http://testserver") as client:
        assert close_code(client) == 4404


def test_a_ticket_opens_its_socket_once(web: Web, job: Job, token: str) -> None:
    answer = ticket_for(web, task_path(job), {"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    ticket = answer.json()["ticket"]
    with dial(web, task_path(job, after=0), subprotocols=["ticket", ticket]) as client:
        assert client.subprotocol == "ticket"
        assert hear(client)["kind"] == "snapshot"
    with dial(web, task_path(job), subprotocols=["ticket", ticket]) as client:
        assert close_code(client) == 4401


def test_a_ticket_is_for_one_path_and_one_user(web: Web, lasting_world: World, job: Job) -> None:
    browser = lasting_world.user("bob")
    web_answer = browser.post("/api/v1/tenants/acme/ws-ticket", {"path": task_path(job)})
    ticket = json.loads(web_answer.content)["ticket"]
    other = submitted(lasting_world.acme)
    with dial(web, task_path(other), subprotocols=["ticket", ticket]) as client:
        assert close_code(client) == 4401
    again = json.loads(browser.post("/api/v1/tenants/acme/ws-ticket", {"path": task_path(job)}).content)[
        "ticket"
    ]
    stolen: dict[str, Any] = {"headers": cookie(lasting_world, "alice"), "origin": "http://testserver"}
    with dial(web, task_path(job), subprotocols=["ticket", again], **stolen) as client:
        assert close_code(client) == 4401


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/me", "/ws/v1/tenants/other/feed", "/ws/v1/tenants/acme/x", 7]
)
def test_a_ticket_for_no_socket_of_the_tenant_is_400(
    web: Web, lasting_world: World, token: str, path: Any
) -> None:
    answer = ticket_for(web, path, {"Authorization": f"Bearer {token}"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/path"


def test_a_revoked_token_ends_its_sockets_and_hears_nothing_more(
    impatient_web: Web, lasting_world: World, job: Job
) -> None:
    row, raw = token_of(lasting_world.acme)
    with dial(impatient_web, task_path(job), raw) as client:
        hear(client)
        token_revoke(actor=SYSTEM, token=row)
        assert close_code(client) == 4401


def test_a_lost_membership_ends_a_session_s_sockets(
    impatient_web: Web, lasting_world: World, job: Job
) -> None:
    headers = cookie(lasting_world, "bob")
    with dial(impatient_web, task_path(job), headers=headers, origin="http://testserver") as client:
        hear(client)
        Membership.objects.filter(user__username="bob").delete()
        assert close_code(client) == 4404


def test_too_many_connections_of_one_credential_are_4429(
    impatient_web: Web, lasting_world: World, job: Job, token: str
) -> None:
    path = task_path(job)
    with ExitStack() as open_sockets:
        for _ in range(3):
            hear(open_sockets.enter_context(dial(impatient_web, path, token)))
        with dial(impatient_web, path, token) as client:
            assert close_code(client) == 4429
        _, another = token_of(lasting_world.acme)
        with dial(impatient_web, path, another) as client:
            assert hear(client)["kind"] == "snapshot"
    with dial(impatient_web, path, token) as client:
        assert hear(client)["kind"] == "snapshot"
