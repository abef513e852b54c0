"""Several web processes are one API: what one has accepted, each of them knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.live.scene import Web, publish_type, web_process
from tests.tenants.callers import World

BODY = {"type": "live.test", "params": {}}


@pytest.fixture
def nodes(
    lasting_world: World, web: Web, token: str, tmp_path: Path
) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    """Clients of two web processes, with one token."""
    publish_type()
    with web_process(tmp_path) as second:
        clients = [
            httpx2.Client(
                base_url=f"{each.url}/api/v1/tenants/acme/",
                headers={"Authorization": f"Bearer {token}"},
                timeout=20,
                trust_env=False,
            )
            for each in (web, second)
        ]
        yield clients[0], clients[1]
        for client in clients:
            client.close()


def test_a_node_that_did_not_accept_a_task_answers_like_the_one_that_did(
    nodes: tuple[httpx2.Client, httpx2.Client],
) -> None:
    first, second = nodes
    key = {"Idempotency-Key": "nodes"}
    task = first.post("tasks", json=BODY, headers=key).json()
    path = f"tasks/{task['id']}"

    def seen(client: httpx2.Client) -> dict[str, object]:
        shown: dict[str, object] = client.get(path).json()
        return shown

    # The very same, links included: they name the platform's address, not the one that was asked.
    assert seen(first) == seen(second)
    assert {name: seen(second)[name] for name in task} == task
    replayed = second.post("tasks", json=BODY, headers=key)
    assert (replayed.status_code, replayed.json()["id"]) == (200, task["id"])
    assert second.post(f"{path}/cancel", json={}).json()["changed"] is True
    assert seen(first) == seen(second)
    assert seen(first)["status"] == "cancelled"
    assert first.post(f"{path}/cancel", json={}).status_code == 409
