"""The welcome job's client: submit, stream the log, say how it ended.

    python -m ops.up.welcome_job CREDENTIALS

Runs as a process of its own beside the supervisor and knows only what any client knows: an
address, a token and the public API.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from ops.up.progress import began
from ops.up.site import CHECKOUT

TIMEOUT = httpx2.Timeout(10.0, read=60.0)
DEADLINE = 170.0


def main() -> int:
    """Return 0 when the job ended, 1 when it could not be run or seen."""
    known = json.loads(Path(sys.argv[1]).read_text())
    client = httpx2.Client(
        base_url=f"{known['url']}/api/v1/tenants/{known['tenant']}/",
        headers={"Authorization": f"Bearer {known['token']}"},
        timeout=TIMEOUT,
        trust_env=False,
    )
    try:
        with client:
            return _run(client)
    except httpx2.HTTPError as error:
        print(f"The platform did not answer the welcome job: {error}")
        return 1


def _run(client: httpx2.Client) -> int:
    where = _source()
    if where is None:
        print("This checkout is no git repository with a commit, so the job runs without a source.")
    command = ["ruff", "check", "."] if where else ["ruff", "--version"]
    answer = client.post(
        "tasks",
        json={
            "type": "shell.command",
            "queue": "critical",
            "params": {"command": command, "source": where},
            "labels": {"welcome": "yes"},
        },
    )
    if answer.status_code != 201:
        print(f"The welcome job was not accepted ({answer.status_code}): {answer.text[:500]}")
        return 1
    task = answer.json()["id"]
    first = _follow(client, task)
    ended = client.get(f"tasks/{task}/wait", params={"timeout": 30}).json()
    if first is not None:
        print(f"First line of the job {first - began():.1f} s after the command.")
    print(f"The welcome job {ended['status']}.")
    _explain(ended)
    return 0 if ended["status"] == "completed" else 1


def _source() -> dict[str, str] | None:
    """Return the checkout as a git source; None when it is no repository or has no commit."""
    git = ("git", "-c", "safe.directory=*", "-C", str(CHECKOUT))
    try:
        subprocess.run(
            [*git, "rev-parse", "--verify", "-q", "HEAD"],
            check=True,
            capture_output=True,
            timeout=10,
        )
        branch = subprocess.run(
            [*git, "symbolic-ref", "--short", "-q", "HEAD"],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"git": CHECKOUT.as_uri(), "ref": branch or "HEAD"}


def _follow(client: httpx2.Client, task: str) -> float | None:
    """Print the job's output as it comes; return when its first line came."""
    first: float | None = None
    after = 0
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            stream = client.stream(
                "GET",
                f"tasks/{task}/log",
                params={"after": after},
                headers={"Accept": "text/event-stream"},
            )
            with stream as response:
                response.raise_for_status()
                for kind, number, data in _events(response):
                    after = max(after, number)
                    if kind == "end":
                        return first
                    for text in _lines(data):
                        first = first or time.time()
                        print(f"  | {text}", flush=True)
                return first
        except httpx2.TransportError:
            continue  # the web process was restarted: go on after the last number
    return first


def _events(response: httpx2.Response) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Read server-sent events as (kind, number, data)."""
    kind, number, data = "message", 0, ""
    for line in response.iter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield kind, number, json.loads(data)
            kind, data = "message", ""
        elif name == "event":
            kind = value
        elif name == "id" and value.isdigit():
            number = int(value)
        elif name == "data":
            data += value


def _lines(data: dict[str, Any]) -> list[str]:
    """Return the lines of one log event, with or without the event's frame around them."""
    body = data.get("data", data)
    return [str(line["text"]) for line in body.get("lines", [])]


def _explain(ended: dict[str, Any]) -> None:
    if ended.get("error"):
        print(f"  {ended['error'].get('code')}: {ended['error'].get('message')}")
    elif ended.get("waiting_for"):
        print(f"  it waits: {ended['waiting_for'].get('detail')}")


if __name__ == "__main__":
    sys.exit(main())
