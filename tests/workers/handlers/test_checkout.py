"""The checkout step: which sources are accepted, and that git really brings them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.handlers import checkout
from workers.handlers.checkout import SourceRefused, checkout_steps
from workers.sandbox import Exit, Launch, Level, detect, make_workspace, spawn, wipe_workspace

AVAILABLE = detect().available
LEVELS = [level for level in Level if AVAILABLE[level]]


def source(url: str, **more: Any) -> dict[str, Any]:
    return {"command": "true", "source": {"git": url, **more}}


def git(folder: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *names, *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository() -> Iterator[Path]:
    """Two commits on main, a tag on the first, a branch, a hostile hook, and a private file beside."""
    with tempfile.TemporaryDirectory(prefix="switchyard-git-") as folder:
        root = Path(folder) / "repository"
        root.mkdir()
        git(root, "init", "--quiet")
        (root / "file").write_text("one")
        git(root, "add", "file")
        git(root, "commit", "--quiet", "-m", "one")
        git(root, "tag", "v1")
        git(root, "branch", "feature/x")
        (root / "file").write_text("two")
        git(root, "commit", "--quiet", "-am", "two")
        (root / "untracked-secret").write_text("s3cret")
        yield root


def check_out(
    level: Level, url: str, roots: list[Path], **more: Any
) -> tuple[Exit, str, dict[str, str]]:
    (step,) = checkout_steps(source(url, **more), file_roots=roots)
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder), "run")
        launch = Launch(
            level=level,
            workspace=workspace,
            argv=step.argv,
            env=step.env,
            extra_read_only=step.read_only,
        )
        with spawn(launch) as sandboxed:
            ending = sandboxed.wait(30)
            errors = os.read(sandboxed.stderr, 65536).decode()
        work = workspace / "work"
        files = {path.name: path.read_text() for path in work.iterdir() if path.is_file()}
        wipe_workspace(workspace)
    return ending, errors, files


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("ref", "content"),
    [
        ("HEAD", "two"),
        ("main", "two"),
        ("v1", "one"),
        ("feature/x", "one"),
        ("sha", "one"),
        ("short", "one"),
    ],
)
def test_any_ref_is_checked_out(level: Level, repository: Path, ref: str, content: str) -> None:
    first = git(repository, "rev-parse", "v1")
    ref = {"sha": first, "short": first[:10]}.get(ref, ref)
    ending, errors, files = check_out(level, f"file://{repository}", [repository.parent], ref=ref)
    assert (ending.code, files) == (0, {"file": content}), errors


@pytest.mark.parametrize("level", LEVELS)
def test_a_linked_worktree_and_a_bare_repository_can_be_sources(level: Level, repository: Path) -> None:
    worktree, bare = repository.parent / "worktree", repository.parent / "bare"
    git(repository, "worktree", "add", "--quiet", str(worktree), "feature/x")
    git(repository, "clone", "--quiet", "--bare", ".", str(bare))
    assert check_out(level, f"file://{worktree}", [repository.parent])[2] == {"file": "one"}
    assert check_out(level, f"file://{bare}", [repository.parent])[2] == {"file": "two"}


@pytest.mark.parametrize("level", LEVELS)
def test_a_ref_that_does_not_exist_fails_with_gits_words(level: Level, repository: Path) -> None:
    ending, errors, _ = check_out(level, f"file://{repository}", [repository], ref="nope")
    assert ending.code != 0
    assert "nope" in errors


def test_git_sees_the_repository_and_not_the_files_beside_it(repository: Path) -> None:
    (step,) = checkout_steps(source(f"file://{repository}"), file_roots=[repository.parent])
    assert step.read_only == (repository.resolve() / ".git",)
    assert not step.network


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/r.git",
        "git://example.org/r.git",
        "ext::sh -c id",
        "/etc",
        "file:///etc",
        "file://host/repository",
        "https://user:password@example.org/r.git",
        "https://",
        "ssh://-oProxyCommand=id/r",
        "-oProxyCommand=id:x",
        "https://example.org/a b",
        "https://example.org:99999/r.git",
        "https://[::1/r.git",
        "-oProxyCommand=id@host:x",
        "ssh://-oProxyCommand=id@host/x",
        "",
        "\n",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    if not url:
        assert checkout_steps({"source": None}) == []
        return
    with pytest.raises(SourceRefused):
        checkout_steps(source(url), file_roots=[Path("/nowhere")])


def test_a_password_in_an_address_is_refused_with_what_to_do() -> None:
    with pytest.raises(SourceRefused, match="leave it out, because everybody who sees the task sees it"):
        checkout_steps(source("https://me:word@example.org/r.git"))


@pytest.mark.parametrize("ref", ["--upload-pack=id", "-x", "a..b"])
def test_a_ref_is_no_option(ref: str) -> None:
    with pytest.raises(SourceRefused):
        checkout_steps(source("https://example.org/r.git", ref=ref))


def test_a_root_may_be_the_git_folder_alone(repository: Path) -> None:
    git = repository / ".git"
    (step,) = checkout_steps(source(f"file://{repository}"), file_roots=[git])
    assert step.read_only == (git.resolve(),)
    beside = repository.parent / "beside"
    shutil.copytree(git, beside / ".git")
    with pytest.raises(SourceRefused):
        checkout_steps(source(f"file://{beside}"), file_roots=[git])


@pytest.mark.parametrize("bait", ["", "alternates", "gitdir"])
def test_a_repository_that_a_run_has_made_is_none(repository: Path, bait: str) -> None:
    # With links in it that git would follow into the platform's own files, and quote what is there.
    state = repository.parent / "state"
    made = state / "workspaces" / "run" / "work"
    (state / "service").mkdir(parents=True)
    (state / "service" / "credentials.json").write_text('{"token": "s3cret"}')
    if bait == "gitdir":
        made.mkdir(parents=True)
        (made / ".git").write_text(f"gitdir: {repository}/.git")
    else:
        shutil.copytree(repository, made)
        (made / ".git" / "info" / "grafts").symlink_to(state / "service" / "credentials.json")
        if bait:
            (made / ".git" / "objects" / "info" / "alternates").write_text(f"{state}/service\n")
    roots, private = [repository.parent], [state / "service", state / "workspaces"]
    with pytest.raises(SourceRefused):
        checkout_steps(source(f"file://{made}"), file_roots=roots, private=private)
    assert checkout_steps(source(f"file://{repository}"), file_roots=roots, private=private)


def test_nothing_of_a_repository_outside_of_all_folders_is_read(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "git_folders", lambda _asked: pytest.fail("it was looked into"))
    with pytest.raises(SourceRefused, match="is not below a folder"):
        checkout_steps(source(f"file://{repository}"), file_roots=[repository.parent / "other"])


def test_a_repository_that_keeps_its_objects_in_a_private_folder_is_refused(repository: Path) -> None:
    private = repository.parent / "private"
    shutil.copytree(repository / ".git" / "objects", private)
    alternates = repository / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{private}\n")
    roots = [repository.parent]
    assert checkout_steps(source(f"file://{repository}"), file_roots=roots)
    with pytest.raises(SourceRefused):
        checkout_steps(source(f"file://{repository}"), file_roots=roots, private=[private])


def test_a_link_out_of_the_allowed_folders_is_refused(repository: Path) -> None:
    allowed = repository.parent / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(repository)
    with pytest.raises(SourceRefused):
        checkout_steps(source(f"file://{allowed}/link"), file_roots=[allowed])
    with pytest.raises(SourceRefused):
        checkout_steps(source(f"file://{allowed}/../repository"), file_roots=[allowed])


def test_a_token_is_in_the_environment_for_its_host_and_never_in_the_arguments() -> None:
    (step,) = checkout_steps(source("https://example.org/r.git"), secrets={"GITHUB_TOKEN": "t0ken"})
    assert step.network
    assert step.env["GIT_CONFIG_KEY_0"] == "http.https://example.org/.extraHeader"
    assert "t0ken" not in " ".join(step.argv)
    (step,) = checkout_steps(source("git@example.org:r.git"), secrets={"GITHUB_TOKEN": "t0ken"})
    assert "t0ken" not in str(step)


def test_ssh_goes_through_the_proxy_where_there_is_one() -> None:
    (step,) = checkout_steps(source("ssh://git@example.org/r.git"), proxied=True)
    assert "connect.py %h %p" in step.env["GIT_SSH_COMMAND"]
    assert step.read_only
