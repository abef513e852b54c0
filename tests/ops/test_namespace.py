"""Root's closed folders become passable for the accounts, in their own namespace only."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ops.accounts import Account, choose_accounts
from ops.namespace import Namespace, Unreachable, entering, reveal

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has closed folders to reveal: run as root"),
    pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's"),
]


@pytest.fixture
def account() -> Account:
    """The account that root drops to."""
    return choose_accounts().service


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only root may enter, with something in it."""
    # pytest's own folders are closed as well; the one below is the outermost that is ours.
    folder = tmp_path / "closed"
    (folder / "project" / "inner").mkdir(parents=True)
    (folder / "project" / "file").write_text("seen")
    (folder / "project" / "inner" / "deep").write_text("seen too")
    (folder / "private").mkdir()
    (folder / "private" / "secret").write_text("secret")
    folder.chmod(0o700)
    return folder


def as_account(account: Account, namespace: Namespace | None, *command: str) -> str:
    """Run a command the way a component is run; return what it printed."""
    done = subprocess.run(
        command,
        preexec_fn=entering(account, namespace),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout + done.stderr


def revealed(account: Account, *paths: Path) -> Namespace:
    """Reveal the paths, or skip where the machine does not permit namespaces."""
    try:
        namespace = reveal({account: list(paths)})
    except Unreachable as error:
        if "Operation not permitted" in str(error):
            pytest.skip("mount namespaces are not permitted here: run with CAP_SYS_ADMIN")
        raise
    assert namespace is not None
    return namespace


def test_what_is_needed_is_reached_at_the_same_path(account: Account, closed: Path) -> None:
    namespace = revealed(account, closed / "project")
    assert as_account(account, namespace, "cat", str(closed / "project" / "file")) == "seen"
    deep = closed / "project" / "inner" / "deep"
    assert as_account(account, namespace, "cat", str(deep)) == "seen too"


def test_nothing_else_is_revealed(account: Account, closed: Path) -> None:
    namespace = revealed(account, closed / "project")
    assert as_account(account, namespace, "ls", str(closed)).split() == ["project"]
    told = as_account(account, namespace, "cat", str(closed / "private" / "secret"))
    assert "No such file" in told


def test_a_needed_folder_that_is_itself_closed_is_revealed_whole(account: Account, closed: Path) -> None:
    (closed / "project").chmod(0o700)
    (closed / "project" / "link").symlink_to("inner")
    namespace = revealed(account, closed / "project")
    assert as_account(account, namespace, "cat", str(closed / "project" / "file")) == "seen"
    deep = closed / "project" / "link" / "deep"
    assert as_account(account, namespace, "cat", str(deep)) == "seen too"


def test_a_way_through_a_link_is_revealed(account: Account, closed: Path) -> None:
    (closed / "alias").symlink_to(closed / "project")
    namespace = revealed(account, closed / "alias" / "inner")
    assert as_account(account, namespace, "cat", str(closed / "alias" / "inner" / "deep")) == "seen too"


def test_later_changes_are_seen_and_no_permission_was_changed(account: Account, closed: Path) -> None:
    namespace = revealed(account, closed / "project")
    (closed / "project" / "later").write_text("new")
    assert as_account(account, namespace, "cat", str(closed / "project" / "later")) == "new"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert (closed / "private" / "secret").read_text() == "secret"
    assert str(closed) not in Path("/proc/self/mountinfo").read_text()


def test_reachable_folders_need_no_namespace(account: Account) -> None:
    assert reveal({account: [Path("/usr/bin"), Path("/tmp")]}) is None


def test_an_unreadable_file_is_told_in_a_sentence(account: Account, closed: Path) -> None:
    (closed / "project" / "file").chmod(0o600)
    with pytest.raises(Unreachable, match="start Switchyard as an ordinary user"):
        reveal({account: [closed / "project", closed / "project" / "file"]})
