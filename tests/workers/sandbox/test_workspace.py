"""Workspaces: never shared, measured, and gone without a trace whatever was left in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.sandbox import (
    WorkspaceError,
    make_workspace,
    open_inside,
    unlinked_bytes,
    wipe_workspace,
    work_folder,
    workspace_bytes,
)
from workers.sandbox.artifacts import matching
from workers.sandbox.measuring import LEAST

ROOT = Path(__file__).parents[3]


def test_a_name_is_given_once(base: Path) -> None:
    workspace = make_workspace(base, "run")
    assert work_folder(workspace).stat().st_mode & 0o777 == 0o700
    with pytest.raises(WorkspaceError):
        make_workspace(base, "run")


def test_links_are_removed_and_what_they_point_to_stays(base: Path) -> None:
    outside = base / "outside"
    outside.mkdir()
    (outside / "file").write_text("keep")
    workspace = make_workspace(base, "run")
    (work_folder(workspace) / "link").symlink_to(outside)
    (work_folder(workspace) / "dangling").symlink_to("/nowhere")
    wipe_workspace(workspace)
    assert not workspace.exists()
    assert (outside / "file").read_text() == "keep"


def test_any_depth_and_any_name_is_wiped(base: Path) -> None:
    workspace = make_workspace(base, "run")
    work = work_folder(workspace)
    (work / ".wiped-0").mkdir()
    (workspace / ".wiped-1").mkdir()
    (workspace / ".wiped-2").write_text("x")
    os.mkfifo(work / "pipe")
    here = os.open(work, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    wipe_workspace(workspace)
    assert not workspace.exists()


def test_what_is_not_there_needs_no_wiping(base: Path) -> None:
    wipe_workspace(base / "never")


def test_folders_without_permissions_are_wiped_by_an_ordinary_user() -> None:
    code = (
        "import os, sys, tempfile; from pathlib import Path; from workers.sandbox import *\n"
        "from tests.workers.sandbox.dropping import drop_as_a_worker_does\n"
        "if os.geteuid() == 0: drop_as_a_worker_does(keep_setuid=False)\n"
        "base = Path(tempfile.mkdtemp()); w = make_workspace(base, 'w'); d = w / 'work' / 'a' / 'b'\n"
        "d.mkdir(parents=True); (d / 'f').touch()\n"
        "os.chmod(d, 0); os.chmod(d.parent, 0); os.chmod(w, 0)\n"
        "wipe_workspace(w); print(os.listdir(base)); base.rmdir()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/platform"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_size_counts_what_is_on_disk(base: Path) -> None:
    workspace = make_workspace(base, "run")
    empty = workspace_bytes(workspace)
    (work_folder(workspace) / "file").write_bytes(b"x" * 1_000_000)
    assert 1_000_000 <= workspace_bytes(workspace) - empty < 1_100_000


def test_an_empty_file_counts_as_a_block_and_counting_stops_when_there_is_enough(base: Path) -> None:
    workspace = make_workspace(base, "run")
    empty = workspace_bytes(workspace)
    for number in range(100):
        (work_folder(workspace) / f"{number}").touch()
    assert workspace_bytes(workspace) - empty >= 100 * LEAST
    below = work_folder(workspace) / "below"
    below.mkdir()
    (below / "file").write_bytes(b"x" * 1_000_000)
    assert workspace_bytes(workspace, enough=LEAST) < 1_000_000


def test_what_a_run_has_closed_is_measured_and_stays_closed() -> None:
    code = (
        "import os, tempfile\nfrom pathlib import Path\n"
        "from workers.sandbox import make_workspace, work_folder, workspace_bytes, WorkspaceError\n"
        "from tests.workers.sandbox.dropping import drop_as_a_worker_does\n"
        "if os.geteuid() == 0: drop_as_a_worker_does(keep_setuid=False)\n"
        "w = make_workspace(Path(tempfile.mkdtemp()), 'w'); d = work_folder(w) / 'a' / 'b'\n"
        "d.mkdir(parents=True); (d / 'f').write_bytes(b'x' * 1_000_000)\n"
        "os.chmod(d, 0o600); os.chmod(d.parent, 0)\n"
        "print(workspace_bytes(w) >= 1_000_000, oct(d.parent.stat().st_mode & 0o777))\n"
        "os.chmod(d.parent, 0o700); print(oct(d.stat().st_mode & 0o777))\n"
        "for n in range(150): (work_folder(w) / str(n)).mkdir(mode=0)\n"
        "try: workspace_bytes(w)\n"
        "except WorkspaceError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/platform"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    said = ["True 0o0", "0o600", "More than 100 folders are closed."]
    assert done.stdout.splitlines() == said, done.stderr


def test_a_file_without_a_name_is_found_by_who_holds_it(base: Path) -> None:
    workspace = make_workspace(base, "run")
    with open(work_folder(workspace) / "file", "wb") as file:
        os.unlink(file.name)
        file.write(b"x" * 1_000_000)
        file.flush()
        os.fsync(file.fileno())
        again = os.dup(file.fileno())
        assert 1_000_000 <= unlinked_bytes([os.getpid()], workspace) < 1_100_000
        os.close(again)


def test_only_regular_files_inside_are_opened(base: Path) -> None:
    workspace = make_workspace(base, "run")
    work = work_folder(workspace)
    (work / "out").mkdir()
    (work / "out" / "a.txt").write_text("content")
    (work / "link").symlink_to("/etc/passwd")
    (work / "folder").symlink_to("/etc")
    os.mkfifo(work / "pipe")
    with open(open_inside(workspace, "out/a.txt")) as file:
        assert file.read() == "content"
    for path in (
        "link",
        "folder/passwd",
        "pipe",
        "out",
        "../home",
        "/etc/passwd",
        "",
        "missing",
        "a/../b",
    ):
        with pytest.raises(WorkspaceError):
            open_inside(workspace, path)


def untroubled(workspace: Path, patterns: list[str]) -> list[str]:
    return matching(workspace, patterns, tell=pytest.fail)


def test_patterns_find_files_inside_and_follow_no_link(base: Path) -> None:
    workspace = make_workspace(base, "run")
    work = work_folder(workspace)
    for name in ("reports/a.xml", "reports/deep/b.xml", "reports/c.txt", "top.xml", ".hidden/d.xml"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("x")
    (work / "reports" / "link.xml").symlink_to("/etc/passwd")
    (work / "loop").symlink_to(".")
    assert untroubled(workspace, ["reports/**"]) == [
        "reports/a.xml",
        "reports/c.txt",
        "reports/deep/b.xml",
    ]
    assert untroubled(workspace, ["**/*.xml"]) == [
        ".hidden/d.xml",
        "reports/a.xml",
        "reports/deep/b.xml",
        "top.xml",
    ]
    assert untroubled(workspace, ["*.xml"]) == ["top.xml"]
    assert untroubled(workspace, ["reports/?.xml"]) == ["reports/a.xml"]
    assert untroubled(workspace, ["../**", "/etc/*", "nothing"]) == []


def test_a_folder_that_cannot_be_looked_into_is_told(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(base, "run")
    (work_folder(workspace) / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refusing)
        assert matching(workspace, ["**"], tell=told.append) == []
    assert told == ["closed: it cannot be looked into (Permission denied)."]
