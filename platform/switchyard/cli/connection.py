"""Which server, token and tenant a command uses, and where that is written down.

The first that has a value wins: flags, environment, `switchyard login`, the credentials that an `up`
in the current folder left. A stored token goes only to the address that it was stored with: naming
another address by flag or environment must not carry the token there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchyard.client.errors import UnusableConnection

LOCAL = Path(".switchyard") / "credentials.json"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a command goes; `local` is the file it was read from when that is this folder's."""

    url: str
    token: str | None
    tenant: str | None
    local: Path | None = None


def resolve(
    url: str | None = None,
    token: str | None = None,
    tenant: str | None = None,
    *,
    operator: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Connection:
    """Return the connection from flags, environment, log-in and this folder, in that order.

    `operator` prefers the operator's token of this folder's credentials.

    Raises:
        UnusableConnection: no address is known, or a file with one cannot be read.
    """
    known = os.environ if environment is None else environment
    url = url or known.get("SWITCHYARD_URL") or None
    token = token or known.get("SWITCHYARD_TOKEN") or None
    tenant = tenant or known.get("SWITCHYARD_TENANT") or None
    for path in (login_file(known), LOCAL):
        if url is not None and token is not None:
            break
        stored = _read(path)
        if not stored.get("url") or url not in (None, stored["url"]):
            continue
        own = stored.get("operator_token") if operator else None
        return Connection(
            url=str(stored["url"]),
            token=token or own or stored.get("token"),
            # A token given by hand may belong to another tenant than the stored one.
            tenant=tenant or (stored.get("tenant") if token is None else None),
            local=path if path == LOCAL else None,
        )
    if url is None:
        raise UnusableConnection(
            "No server is known: log in with `switchyard login`, set SWITCHYARD_URL and "
            "SWITCHYARD_TOKEN, or start one here with `switchyard up`."
        )
    return Connection(url, token, tenant)


def announce(connection: Connection) -> None:
    """Say so on stderr when the connection came from this folder alone."""
    if connection.local is not None:
        print(f"Using {connection.local} of this folder.", file=sys.stderr, flush=True)


def login_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return where `switchyard login` keeps its values: the user's configuration folder."""
    known = os.environ if environment is None else environment
    if sys.platform == "win32":
        base = Path(known.get("APPDATA") or Path.home())
    else:
        base = Path(known.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "switchyard" / "login.json"


def store(url: str, token: str, tenant: str | None) -> Path:
    """Keep the connection in a file that only its owner may read; return its path."""
    path = login_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({"url": url, "token": token, "tenant": tenant}, stream, indent=2)
        stream.write("\n")
    draft.replace(path)
    return path


def forget() -> bool:
    """Remove what `switchyard login` stored; return whether there was anything."""
    try:
        login_file().unlink()
    except FileNotFoundError:
        return False
    return True


def _read(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        return {}
    except PermissionError:
        # Another user's `up` is not ours to use; a log-in of our own is always readable.
        return {}
    except (OSError, ValueError) as error:
        raise UnusableConnection(
            f"{path} cannot be read ({error}); remove it, then log in with `switchyard login`."
        ) from None
    return told if isinstance(told, dict) else {}
