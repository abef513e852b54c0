"""The rehearsal before the first supervisor is forked: it works, and leaves nothing behind."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

import pytest
import structlog
from django.db import connection

from tasks.models import Event, Run
from tests.workers.supervisor.conftest import Bench
from workers.sandbox import HandlerIdentity, SandboxError, tree
from workers.sandbox.handler_server import close_servers, start_servers
from workers.supervisor import rehearsal
from workers.supervisor.guard import try_out
from workers.supervisor.place import handler_identity, workspace_root


@pytest.fixture(autouse=True)
def _served() -> Iterator[None]:
    start_servers(["workers.handlers.shell"])
    yield
    close_servers()


def open_descriptors() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if _there(each)}


def _there(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_it_goes_through_whole_runs_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    monkeypatch.setattr(rehearsal, "try_out", lambda *given: outcomes.append(try_out(*given)))
    before = (tree.children(os.getpid()), tree.is_subreaper())
    with structlog.testing.capture_logs() as logs:
        rehearsal.rehearse()
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    assert [outcome.status for outcome in outcomes] == ["completed"] * rehearsal.TIMES
    assert list(workspace_root().iterdir()) == []
    assert connection.connection is None
    assert (tree.children(os.getpid()), tree.is_subreaper()) == before
    assert (Run.objects.count(), Event.objects.count()) == (0, 0)


def test_it_keeps_no_user_of_handlers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def taking() -> HandlerIdentity | None:
        identity = handler_identity()
        taken.append(identity)
        return identity

    monkeypatch.setattr(importlib.import_module("workers.supervisor.guard"), "handler_identity", taking)
    workspace_root().parent.chmod(0o711)
    rehearsal.rehearse()
    assert len(taken) == rehearsal.TIMES
    assert len(set(taken)) == 1, "each rehearsal gives its user back"
    assert not any("uid-" in each for each in open_descriptors())


def test_whatever_goes_wrong_is_left_to_real_runs(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    def refused(*_given: object) -> None:
        raise SandboxError("no namespaces here")

    monkeypatch.setattr(rehearsal, "try_out", refused)
    with structlog.testing.capture_logs() as logs:
        rehearsal.rehearse()
    assert [entry["event"] for entry in logs] == ["rehearsal_failed"]


def test_without_a_database_the_rest_is_rehearsed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr(rehearsal, "try_out", lambda *given: tried.append(given))
    with bench.database_away(), structlog.testing.capture_logs() as logs:
        rehearsal.rehearse()
    assert len(tried) == rehearsal.TIMES
    assert [entry["event"] for entry in logs] == ["rehearsal_cut_short"]
