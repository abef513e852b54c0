"""PostgreSQL frozen, cut off or gone in mid-commit, seen by a client of the API.

One web process on the test database, with a proxy between the two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from django.conf import settings as django_settings
from psycopg.conninfo import conninfo_to_dict

from config.postgresql.base import WAITING_PER_CONNECTION
from live.codes import TRY_LATER
from rest.outages import SILENCE_SECONDS
from tasks.models import Task
from tests.chaos.proxy import Proxy, Way
from tests.conftest import Eventually
from tests.live.scene import (
    Web,
    close_code,
    dial,
    hear,
    publish_type,
    submitted,
    task_path,
    token_of,
    web_process,
)
from tests.tenants.callers import World

ANSWER_SECONDS = 5.0
CONNECTIONS = 4
BODY = {"type": "live.test", "params": {}}
PARTS = {
    key: str(value) for key, value in conninfo_to_dict(django_settings.SWITCHYARD.database_url).items()
}


@dataclass
class Remote:
    """The API behind a proxied database."""

    proxy: Proxy
    web: Web
    http: httpx2.Client

    def post(self, key: str = "") -> httpx2.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post("/api/v1/tenants/acme/tasks", json=BODY, headers=headers)

    def works(self) -> bool:
        return self.http.get("/api/v1/tenants/acme/tasks").status_code == 200


@pytest.fixture(scope="module")
def served(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Proxy, Web]]:
    from django.db import connection

    with Proxy(int(str(PARTS["port"]))) as proxy:
        name = connection.settings_dict["NAME"]
        url = f"postgresql://{PARTS['user']}:{PARTS['password']}@127.0.0.1:{proxy.port}/{name}"
        settings = {"DATABASE_URL": url, "SWITCHYARD_WEB_CONNECTIONS": str(CONNECTIONS)}
        with web_process(tmp_path_factory.mktemp("web"), **settings) as web:
            yield proxy, web


@pytest.fixture
def remote(lasting_world: World, served: tuple[Proxy, Web], eventually: Eventually) -> Iterator[Remote]:
    proxy, web = served
    publish_type()
    _, token = token_of(lasting_world.acme)
    with httpx2.Client(
        base_url=web.url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
        trust_env=False,
        limits=httpx2.Limits(max_connections=200),
    ) as http:
        remote = Remote(proxy, web, http)
        eventually(remote.works, seconds=15)
        yield remote
        proxy.open()


def assert_unavailable(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["code"] in ("database_unavailable", "not_ready")


@pytest.mark.parametrize("way", [Way.FROZEN, Way.DEAF, Way.CLOSED])
def test_every_answer_comes_within_five_seconds_and_says_503(
    remote: Remote, lasting_world: World, way: Way, eventually: Eventually
) -> None:
    path = f"/api/v1/tenants/acme/tasks/{submitted(lasting_world.acme).id}"
    requests = [
        lambda: remote.post("k1"),
        lambda: remote.http.get("/api/v1/tenants/acme/tasks"),
        lambda: remote.http.get(path),
        lambda: remote.http.post(f"{path}/cancel", json={}),
        lambda: remote.http.get(f"{path}/wait?timeout=1"),
        lambda: remote.http.get(f"{path}/events", headers={"Accept": "text/event-stream"}),
        lambda: remote.http.get("/health/ready"),
    ] * 6
    remote.proxy.set(way)

    def timed(request: Any) -> tuple[httpx2.Response, float]:
        began = time.monotonic()
        return request(), time.monotonic() - began

    with ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(timed, requests))
    remote.proxy.open()
    for answer, _ in answers:
        assert_unavailable(answer)
    assert max(seconds for _, seconds in answers) < ANSWER_SECONDS
    eventually(remote.works, seconds=5)
    # Whether the first try was stored after all or not: with its key there is one task.
    keyed = [remote.post("k1") for _ in range(2)]
    assert len({answer.json()["id"] for answer in keyed}) == 1
    assert Task.objects.count() == 2


def test_more_requests_than_can_wait_are_refused_before_the_others_give_up(remote: Remote) -> None:
    places = CONNECTIONS * (1 + WAITING_PER_CONNECTION)
    remote.proxy.set(Way.FROZEN)

    def one(_number: int) -> tuple[int, float]:
        began = time.monotonic()
        status = remote.http.get("/api/v1/me").status_code
        return status, time.monotonic() - began

    with ThreadPoolExecutor(2 * places) as threads:
        answers = list(threads.map(one, range(2 * places)))
    assert {status for status, _ in answers} == {503}
    assert sum(seconds < SILENCE_SECONDS for _, seconds in answers) >= places // 2


def test_readiness_names_the_database(remote: Remote) -> None:
    remote.proxy.set(Way.FROZEN)
    began = time.monotonic()
    answer = remote.http.get("/health/ready")
    assert time.monotonic() - began < 3.5
    assert (answer.status_code, answer.json()["missing"]) == (503, ["database"])
    assert remote.http.get("/health/live").status_code == 200


def test_a_commit_whose_answer_is_lost_is_found_again_by_its_key(remote: Remote) -> None:
    remote.proxy.cut_after_commit()
    assert_unavailable(remote.post("lost-answer"))
    assert remote.proxy.sprung
    again = remote.post("lost-answer")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert [str(pk) for pk in Task.objects.values_list("pk", flat=True)] == [again.json()["id"]]


def test_a_commit_that_was_never_heard_stored_nothing(remote: Remote) -> None:
    remote.proxy.cut_before_commit()
    assert_unavailable(remote.post("never-heard"))
    assert Task.objects.count() == 0
    again = remote.post("never-heard")
    assert (again.status_code, Task.objects.count()) == (201, 1)


def test_cut_connections_cost_no_request(remote: Remote) -> None:
    assert remote.proxy.cut() > 0
    assert [remote.post().status_code for _ in range(4)] == [201] * 4


def test_a_socket_is_told_to_come_back_later_and_misses_nothing(
    remote: Remote, lasting_world: World, eventually: Eventually
) -> None:
    job = submitted(lasting_world.acme).run()
    token = remote.http.headers["Authorization"].removeprefix("Bearer ")
    with dial(remote.web, task_path(job, after=0), token) as client:
        assert hear(client)["kind"] == "snapshot"
        remote.proxy.set(Way.FROZEN)
        job.print("while nobody could read")
        assert close_code(client, 15) == TRY_LATER
    remote.proxy.open()
    eventually(remote.works, seconds=5)
    with dial(remote.web, task_path(job, after=0), token) as client:
        assert hear(client)["kind"] == "snapshot"
        assert [hear(client)["seq"] for _ in range(job.last_seq)] == list(range(1, job.last_seq + 1))
