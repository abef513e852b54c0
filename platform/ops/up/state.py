"""The state folder of one platform: its lock, its secrets, its credentials, its sub-folders.

::

    STATE/                 0711 when we make it; somebody's own folder is left as it is
      lock                 flock of the running `up`, with its pid and address
      secrets.json         0600: what was generated once and must stay
      credentials.json     0600: what people and scripts log in with (README)
      ports.json           the embedded servers' ports
      postgres/ valkey/    0700, the database account's
      settings/            0500, the service account's: DATABASE_URL and other secret settings
      logs/                one file per component
      run/                 sockets/ of the embedded servers
      workspaces/          the runs' private directories
      tmp/                 TMPDIR of the components: what they leave when they are killed ends with `up`
      service/             SWITCHYARD_STATE of the components (workers/ holds heartbeat files, files/
                           the tasks' inputs and artifacts), and
                           their HOME when root dropped them
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from ops.accounts import Account, Accounts
from ops.embedded.folders import make_folder


class StateError(Exception):
    """The state folder cannot be used; the message says why and what to do."""


class AlreadyRunning(StateError):
    """Another `up` holds this state folder."""

    def __init__(self, holder: dict[str, Any]) -> None:
        self.holder = holder
        pid, url = holder.get("pid", "unknown"), holder.get("url") or "still starting"
        super().__init__(
            f"Switchyard already runs on this state folder (process {pid}, {url}). "
            "`switchyard up --stop` with the same --state ends it."
        )


class State:
    """One state folder; all paths are absolute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.credentials = self.folder / "credentials.json"
        self.ports = self.folder / "ports.json"
        self.logs = self.folder / "logs"
        self.run = self.folder / "run"
        self.sockets = self.run / "sockets"
        self.settings = self.folder / "settings"
        self.workspaces = self.folder / "workspaces"
        self.temporary = self.folder / "tmp"
        self.service = self.folder / "service"
        self.workers = self.service / "workers"
        self._lock: int | None = None

    def make(self) -> None:
        """Make the folder itself.

        Raises:
            StateError: when it cannot be made or written.
        """
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                # Other accounts pass through to their own sub-folders, and cannot list this one.
                self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise StateError(
                f"The state folder {self.folder} cannot be used ({error.strerror}): "
                "choose another with --state."
            ) from None

    def make_folders(self, accounts: Accounts) -> None:
        """Make the sub-folders, each for the account that works in it."""
        service = accounts.service
        me = Account("", os.geteuid(), os.getegid(), switch=False)
        make_folder(self.logs, service, 0o750)
        make_folder(self.run, me, 0o711 if accounts.dropped else 0o700)
        for folder in (self.service, self.workers):
            make_folder(folder, service, 0o700)
        # Handlers run as accounts of their own, and each makes its workspace itself.
        make_folder(self.workspaces, service, 0o1733 if accounts.dropped else 0o700)
        make_folder(self.settings, service, 0o700)
        # Those accounts pass through it, too: the probes of isolation levels have their workspaces here.
        shutil.rmtree(self.temporary, ignore_errors=True)
        make_folder(self.temporary, service, 0o711 if accounts.dropped else 0o700)

    def lock(self) -> None:
        """Take the folder for this process until it ends.

        Raises:
            AlreadyRunning: when another `up` has it.
        """
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.holder()
            os.close(descriptor)
            raise AlreadyRunning(holder) from None
        self._lock = descriptor
        self.announce(url=None)

    def announce(self, *, url: str | None, stop_within: float = 60.0) -> None:
        """Write into the lock who holds it, for `--stop` and for a second `up`.

        ``stop_within``: how many seconds its end takes at most.
        """
        assert self._lock is not None  # noqa: S101 - only the holder announces
        text = json.dumps({"pid": os.getpid(), "url": url, "stop_within": stop_within}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def release(self) -> None:
        """Give the folder up (the end of the process does the same)."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def is_held(self) -> bool:
        """Whether some `up` holds this folder now."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> dict[str, Any]:
        """Return what the holder of the lock announced (``pid``, ``url``); empty when unreadable."""
        with contextlib.suppress(OSError, ValueError):
            told = json.loads((self.folder / "lock").read_text())
            if isinstance(told, dict):
                return told
        return {}

    def secrets(self) -> dict[str, str]:
        """Return the generated secrets, making what is missing.

        Raises:
            StateError: when the file is there and cannot be read: guessing anew would lock us out
                of our own database.
        """
        path = self.folder / "secrets.json"
        known: dict[str, str] = {}
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise StateError(
                f"{path} cannot be read ({error}): restore it from a backup, or move the whole "
                "state folder away to begin anew."
            ) from None
        made = {
            "secret_key": secrets.token_urlsafe(48),
            "encryption_keys": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "database_password": secrets.token_urlsafe(32),
            "administrator_password": secrets.token_urlsafe(32),
            "valkey_password": secrets.token_urlsafe(32),
            "user_password": secrets.token_urlsafe(12),
        }
        if made.keys() - known.keys():
            known = made | known
            write_private(path, known)
        return known

    def setting_files(self, values: dict[str, str], account: Account) -> dict[str, str]:
        """Keep secret settings in files that only the account reads; return ``NAME_FILE`` variables."""
        files = {}
        for name, value in values.items():
            path = self.settings / name
            draft = self.settings / f".{name}"
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(value)
            account.own(draft)
            draft.replace(path)
            files[f"{name}_FILE"] = str(path)
        return files

    def read_credentials(self) -> dict[str, Any]:
        """Return the credentials of the first start; empty before it."""
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(self.credentials.read_text())
            if isinstance(told, dict):
                return told
        return {}

    def write_credentials(self, values: dict[str, Any]) -> None:
        """Write ``credentials.json`` whole or not at all."""
        write_private(self.credentials, values)

    def clear_run(self) -> None:
        """Remove what belongs to one start only."""
        for folder in (self.workers, self.settings):
            with contextlib.suppress(OSError):
                for entry in folder.iterdir():
                    entry.unlink()
        shutil.rmtree(self.temporary, ignore_errors=True)


def write_private(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that only its owner may read, by way of a draft, so that half is never seen."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(values, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
