"""The state folder: what belongs to one start goes with it, and nothing else does."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.accounts import Account, choose_accounts
from ops.embedded.folders import socket_folder
from ops.up.state import State


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, so that its sockets fit into it."""
    with tempfile.TemporaryDirectory(prefix="sy-", dir="/tmp") as made:
        yield Path(made)


def state_at(folder: Path) -> State:
    """A state folder with all that a start makes."""
    state = State(folder)
    state.make()
    state.make_folders(choose_accounts())
    return state


def sockets_of_a_killed_manager(state: State) -> Path:
    """What the pool manager leaves when it is killed."""
    service = choose_accounts().service
    sockets = socket_folder(state.workers / "sockets", service)
    # A path of its own, because a long one fits into no address.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{os.open(sockets, os.O_RDONLY)}/.s.PGSQL.6432")
    for name in ("critical-1", "manager"):
        (state.workers / name).touch()
    note = state.workers / "sockets.path"
    if note.exists():
        service.own(note)
    return sockets


@pytest.mark.parametrize("depth", [0, 60])
def test_what_a_killed_manager_leaves_is_removed(folder: Path, depth: int) -> None:
    state = state_at(folder / ("x" * depth) if depth else folder)
    (state.settings / "DATABASE_URL").touch()
    sockets = sockets_of_a_killed_manager(state)
    assert sockets.is_relative_to(state.folder) is (depth == 0)
    state.clear_run()
    assert not sockets.exists()
    assert list(state.workers.iterdir()) == []
    assert list(state.settings.iterdir()) == []


def test_a_note_that_names_what_is_no_socket_folder_costs_nobody_anything(folder: Path) -> None:
    precious = folder / "precious"
    precious.mkdir()
    (precious / "file").touch()
    link = Path(tempfile.mkdtemp(prefix="switchyard-", dir="/tmp"))
    link.rmdir()
    link.symlink_to(precious)
    try:
        for named in (precious, link, Path("/tmp/switchyard-x/../") / precious.relative_to("/tmp")):
            state = state_at(folder / "state")
            (state.workers / "sockets.path").write_text(str(named))
            state.clear_run()
            assert (precious / "file").exists(), named
            assert list(state.workers.iterdir()) == []
    finally:
        link.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another account's folder")
def test_a_temporary_folder_of_another_account_is_left_alone(folder: Path) -> None:
    state = state_at(folder / "state")
    other = Path(tempfile.mkdtemp(prefix="switchyard-", dir="/tmp"))
    try:
        (other / "file").touch()
        Account("", 12345, 12345, switch=True).own(other)
        note = state.workers / "sockets.path"
        note.write_text(str(other))
        choose_accounts().service.own(note)
        state.clear_run()
        assert (other / "file").exists()
    finally:
        (other / "file").unlink()
        other.rmdir()
