"""The same request as a shell command: with the ``switchyard`` command, and with curl.

Plain rules: no Django. The words are quoted for a POSIX shell, so that any text of a tenant pastes
as text. The token is always a variable, never a value.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any


def curl_submit(base: str, tenant: str, body: Mapping[str, Any]) -> str:
    """Return the curl call that submits ``body`` to the platform at ``base``."""
    return _lines(
        f"curl -sS {shlex.quote(f'{base}/api/v1/tenants/{tenant}/tasks')}",
        '-H "Authorization: Bearer $SWITCHYARD_TOKEN"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
    )


def curl_read(base: str, tenant: str, task_id: str) -> str:
    """Return the curl call that reads a task."""
    return _lines(
        f"curl -sS {shlex.quote(f'{base}/api/v1/tenants/{tenant}/tasks/{task_id}')}",
        '-H "Authorization: Bearer $SWITCHYARD_TOKEN"',
    )


def command_submit(body: Mapping[str, Any]) -> str | None:
    """Return the ``switchyard run`` command that submits ``body`` and follows it.

    None where it has no words for it: a param whose name has a dot (which nests there) or a name
    with the sign that ends names.
    """
    params = dict(body.get("params") or {})
    labels = dict(body.get("labels") or {})
    if any("." in name or "=" in name for name in params) or any("=" in name for name in labels):
        return None
    words = ["switchyard", "run", str(body.get("type", "")), *_options(body)]
    words += [f"--label={name}={value}" for name, value in labels.items()]
    argv = params.get("command") if body.get("type") == "shell.command" else None
    if isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv):
        del params["command"]
    else:
        argv = None
    for name, value in params.items():
        words += ["-p", f"{name}={_value(value)}"]
    if argv is not None:
        words += ["--", *argv]
    return " ".join(shlex.quote(word) for word in words)


FLAGS = {
    "queue": "--queue",
    "priority": "--priority",
    "key": "--key",
    "scheduled_for": "--at",
    "time_limit": "--time-limit",
    "max_retries": "--max-retries",
}


def _options(body: Mapping[str, Any]) -> list[str]:
    given = {name: body[name] for name in FLAGS if body.get(name) not in (None, "")}
    # A value may begin with a hyphen, so it is one word with its flag.
    return [f"{FLAGS[name]}={value}" for name, value in given.items()]


def _value(value: Any) -> str:
    """Return a param as the command reads it: JSON, or plain text that JSON would not take."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _lines(*parts: str) -> str:
    return " \\\n  ".join(parts)
