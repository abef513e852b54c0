"""The source checkout of `shell.command`: one git step in a sandbox of its own, before the command.

Pure: it says what to run and what that needs, the supervisor runs it. Fetches one ref (branch, tag
or commit) into the empty work folder. Git is kept from everything that a repository or an address
could make it do: no hooks, no templates, no prompts, no system configuration, no other protocol, no
submodules. Secrets travel in the environment of the step; an ssh key has to be a file, and is one in
memory where the sandbox has such a place, for the time of the fetch.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = ("GIT_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN")
SSH_KEY = "GIT_SSH_KEY"
SCP_LIKE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!//).+", re.ASCII)
ABBREVIATED = re.compile(r"[0-9a-f]{7,39}", re.ASCII)
CONNECT = Path(__file__).resolve().parents[1] / "sandbox" / "inside" / "connect.py"

CONFIGURATION = """\
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsmonitor = false
[init]
\ttemplateDir =
\tdefaultBranch = main
[protocol]
\tallow = never
[protocol "{protocol}"]
\tallow = always
[uploadpack]
\tallowAnySHA1InWant = true
[credential]
\thelper =
[submodule]
\trecurse = false
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
SCRIPT = """\
set -eu
export GIT_CONFIG_GLOBAL="$TMPDIR/gitconfig"
printf '%s' "$CHECKOUT_CONFIG" > "$GIT_CONFIG_GLOBAL"
unset CHECKOUT_CONFIG
if [ -n "${GIT_SSH_KEY:-}" ]; then
    key="$(mktemp -p /dev/shm 2>/dev/null || mktemp)"
    trap 'rm -f "$key"' EXIT
    trap 'exit 143' TERM
    printf '%s\\n' "$GIT_SSH_KEY" > "$key"
    unset GIT_SSH_KEY
    export GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o IdentitiesOnly=yes -i $key"
fi
git init --quiet .
git remote add origin "$CHECKOUT_URL"
if [ -n "$CHECKOUT_ALL" ]; then
    git fetch --quiet origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
    git checkout --quiet --detach "$CHECKOUT_REF" --
else
    git fetch --quiet --no-tags ${CHECKOUT_DEPTH:+"--depth=$CHECKOUT_DEPTH"} \\
        -- origin "$CHECKOUT_REF"
    git checkout --quiet --detach FETCH_HEAD --
fi
rm -f "$GIT_CONFIG_GLOBAL"
"""


class SourceRefused(Exception):
    """The source of a task may not be fetched from here; the text says what to change."""

    code = "source_refused"


@dataclass(frozen=True, slots=True)
class CheckoutStep:
    """What to launch: argv, the environment on top of the clean one, and what it must reach.

    `env` holds secrets; `read_only` are paths for `Launch.extra_read_only`.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    network: bool
    read_only: tuple[Path, ...] = field(default=())


def checkout_steps(
    params: Mapping[str, Any],
    file_roots: Iterable[Path] = (),
    secrets: Mapping[str, str] | None = None,
    proxied: bool = False,
    private: Iterable[Path] = (),
) -> list[CheckoutStep]:
    """The steps that bring a task's source into its work folder; none without a source.

    `file_roots` are folders below which repositories may be read, `private` those of the platform, in
    which none is one whatever it looks like: runs write there. `proxied` says that the network of the
    step is the egress proxy (level `full`). Raises SourceRefused.
    """
    source = params.get("source")
    if not source:
        return []
    url, ref = source["git"], source.get("ref", "HEAD")
    protocol = _protocol(url)
    if ref.startswith("-") or ".." in ref:
        raise SourceRefused(f"{ref!r} is no branch, tag or commit.")
    depth = source.get("depth", 1)
    environment = {
        "CHECKOUT_CONFIG": CONFIGURATION.format(protocol=protocol),
        "CHECKOUT_URL": url,
        "CHECKOUT_REF": ref,
        "CHECKOUT_DEPTH": "" if depth is None else str(depth),
        "CHECKOUT_ALL": "1" if ABBREVIATED.fullmatch(ref) else "",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    read_only: tuple[Path, ...] = ()
    if protocol == "file":
        read_only = _allowed_repository(url, file_roots, private)
    elif protocol == "https":
        environment |= _authorization(url, secrets or {})
    else:
        environment |= _ssh(secrets or {}, proxied)
        read_only = (CONNECT,) if proxied else ()
    argv = ("/bin/sh", "-c", SCRIPT)
    return [CheckoutStep(argv, environment, protocol != "file", read_only)]


def _protocol(url: str) -> str:
    if any(character <= " " or character == "\x7f" for character in url):
        raise SourceRefused("The address of the repository has spaces or control characters.")
    if "://" not in url and SCP_LIKE.fullmatch(url):
        return "ssh"
    try:
        parts = urlsplit(url)
        host, user, password = parts.hostname, parts.username or "", parts.password
        _ = parts.port
    except ValueError:
        raise SourceRefused("The address of the repository cannot be read.") from None
    if parts.scheme not in ("https", "ssh", "file"):
        raise SourceRefused("A repository is fetched by https, ssh or (where allowed) file.")
    if password is not None:
        raise SourceRefused(
            "The address holds a password; leave it out, because everybody who sees the task sees it."
        )
    if parts.scheme == "file":
        if host not in (None, "", "localhost") or parts.query or parts.fragment:
            raise SourceRefused("A file address looks like file:///path/of/the/repository.")
    elif not host or host.startswith("-") or user.startswith("-"):
        raise SourceRefused("The address of the repository names no host.")
    return parts.scheme


def _allowed_repository(
    url: str, file_roots: Iterable[Path], private: Iterable[Path]
) -> tuple[Path, ...]:
    """What of a local repository git has to read: its git folder, never the files beside it.

    Git follows what a repository says of itself (links, alternates, grafts), and its complaints quote
    what it found. So nothing is read, not even by us, where somebody else than the operator may write.
    """
    asked = Path(os.path.realpath(unquote(urlsplit(url).path)))
    roots = [Path(os.path.realpath(root)) for root in file_roots]
    closed = [Path(os.path.realpath(folder)) for folder in private]
    # The root may be the git folder itself, and the address that of the work tree around it.
    near = any(asked.is_relative_to(root) or root.is_relative_to(asked) for root in roots)
    if not near or any(asked.is_relative_to(folder) for folder in closed):
        raise SourceRefused(
            f"{url} is not below a folder that this platform may check out from "
            f"(SWITCHYARD_GIT_FILE_ROOTS)."
        )
    folders = git_folders(asked)
    if not folders:
        raise SourceRefused(f"{url} is no git repository.")
    for folder in folders:
        inside = any(folder.is_relative_to(root) for root in roots)
        if not inside or any(_overlap(folder, each) for each in closed):
            raise SourceRefused(f"{url} keeps its objects outside the allowed folders.")
    return folders


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def git_folders(repository: Path) -> tuple[Path, ...]:
    """Return the folders that hold a repository's objects: of a clone, a bare one, or a linked worktree;
    none if it is no repository.
    """
    dot_git = repository / ".git"
    if dot_git.is_dir():
        found = [Path(os.path.realpath(dot_git))]
    elif dot_git.is_file():
        text = dot_git.read_text(errors="replace").removeprefix("gitdir:").strip()
        own = Path(os.path.realpath(repository / text))
        shared = own / "commondir"
        common = own / shared.read_text().strip() if shared.is_file() else own
        found = [dot_git, own, Path(os.path.realpath(common))]
    elif (repository / "objects").is_dir() and (repository / "HEAD").is_file():
        found = [repository]
    else:
        return ()
    alternates = found[-1] / "objects" / "info" / "alternates"
    if alternates.is_file():
        lines = alternates.read_text(errors="replace").splitlines()
        found += [Path(os.path.realpath(found[-1] / "objects" / line)) for line in lines if line]
    return tuple(dict.fromkeys(found))


def _authorization(url: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """Git's own settings from the environment: a header for this one origin."""
    token = next((secrets[name] for name in TOKENS if secrets.get(name)), None)
    if token is None:
        return {}
    parts = urlsplit(url)
    origin = f"https://{parts.hostname}{f':{parts.port}' if parts.port else ''}/"
    basic = base64.b64encode(f"{parts.username or 'x-access-token'}:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{origin}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def _ssh(secrets: Mapping[str, str], proxied: bool) -> dict[str, str]:
    """An ssh that asks nobody; new host keys are accepted, for nothing is remembered between runs."""
    command = (
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
        "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    if proxied:
        python = os.path.realpath(sys.executable)
        command += f" -o 'ProxyCommand={python} -I -S {CONNECT} %h %p'"
    environment = {"GIT_SSH_COMMAND": command}
    if secrets.get(SSH_KEY):
        environment[SSH_KEY] = secrets[SSH_KEY]
    return environment
