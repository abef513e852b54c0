"""Where this platform is installed, and what its processes are given to work with."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.accounts import Accounts
from ops.namespace import Namespace
from ops.up.state import State, StateError
from workers.handlers.checkout import git_folders

CHECKOUT = Path(__file__).resolve().parents[3]
# Settings that hold secrets: they travel by file, never in a process's environment.
SECRET_SETTINGS = (
    "DATABASE_URL",
    "REDIS_URL",
    "BROKER_URL",
    "SWITCHYARD_SECRET_KEY",
    "SWITCHYARD_ENCRYPTION_KEYS",
)
# Python's own switches and Django's choice would change what is started; a home or a login name of
# root means nothing to the account that root drops to.
NEVER_PASSED = {"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "DJANGO_SETTINGS_MODULE"}
NOT_PASSED_FROM_ROOT = {"HOME", "USER", "LOGNAME", "MAIL", "OLDPWD", "PWD", "SUDO_COMMAND"}


@dataclass(frozen=True)
class Site:
    """One platform on one machine: its code, its state folder and the accounts it runs as."""

    state: State
    accounts: Accounts
    namespace: Namespace | None
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address that a browser on this machine can open."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


def given(name: str) -> str | None:
    """Return a setting that the caller's environment holds, as ``NAME`` or ``NAME_FILE``.

    Raises:
        StateError: when the file cannot be read.
    """
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise StateError(f"{name}_FILE: cannot read {path} ({error.strerror}).") from None
    return None


def component_environment(site: Site, secret_settings: dict[str, str]) -> dict[str, str]:
    """Return the environment of every component (each adds its ``SWITCHYARD_ROLE``).

    What the caller has set wins over what `up` would choose.
    """
    dropped = site.accounts.dropped
    secret = {form for name in SECRET_SETTINGS for form in (name, f"{name}_FILE")}
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in NEVER_PASSED
        and name not in secret
        and not (dropped and (name in NOT_PASSED_FROM_ROOT or name.startswith("XDG_")))
    }
    chosen = {
        "SWITCHYARD_PUBLIC_URL": site.url,
        "SWITCHYARD_ALLOWED_HOSTS": ",".join(_hosts(site.host)),
        # Not the whole checkout: the state folder is below it, with secrets and with what runs write.
        "SWITCHYARD_GIT_FILE_ROOTS": os.pathsep.join(map(str, git_folders(CHECKOUT))),
        "SWITCHYARD_SANDBOX_PATHS": os.pathsep.join(map(str, toolchains())),
        "SWITCHYARD_WORKSPACES": str(site.state.workspaces),
        "PATH": os.defpath,
    }
    for name, value in chosen.items():
        if not environment.get(name) and not os.environ.get(f"{name}_FILE"):
            environment[name] = value
    environment |= site.state.setting_files(secret_settings, site.accounts.service)
    environment["SWITCHYARD_STATE"] = str(site.state.service)
    environment["TMPDIR"] = str(site.state.temporary)
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "platform")])
    environment["PYTHONUNBUFFERED"] = "1"
    if dropped:
        environment["HOME"] = str(site.state.service)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def toolchains() -> list[Path]:
    """Return what handlers may read besides the system: our virtual environment and its Python."""
    prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
    return list(dict.fromkeys(path for path in prefixes if not path.is_relative_to("/usr")))


def needed_by_service(site_state: State) -> list[Path]:
    """Return what our own processes must reach; one file stands for all that git wrote."""
    return [
        CHECKOUT,
        CHECKOUT / "platform",
        Path(__file__),
        Path(sys.prefix),
        Path(sys.executable).parent,
        Path(sys.base_prefix),
        Path(os.path.realpath(sys.executable)).parent,
        site_state.run,
        site_state.settings,
        site_state.logs,
        site_state.service,
        site_state.workspaces,
        site_state.temporary,
    ]


def _hosts(host: str) -> list[str]:
    """Return the names under which the web process may be addressed."""
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - asked for by --host
        names.append(socket.gethostname())
        with suppress(OSError):
            found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
            names += [str(item[4][0]) for item in found if ":" not in str(item[4][0])]
    elif host not in names:
        names.append(f"[{host}]" if ":" in host else host)
    return list(dict.fromkeys(names))
