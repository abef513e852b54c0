"""What `up` asks the platform that it has started, by HTTP like everybody else."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

SECONDS = 3


def answers_at(url: str) -> bool:
    """Whether the platform at an address says that it is ready."""
    return _ask(url, "/health/ready", {})[0] == 200


def is_unknown_at(url: str, token: str) -> bool:
    """Whether the platform has never heard of a token.

    One that was revoked or has run out is known: somebody wanted that, and it is not made anew.
    """
    status, told = _ask(url, "/api/v1/me", {"Authorization": f"Bearer {token}"})
    return status == 401 and told.get("code") == "invalid_token"


def _ask(url: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON object of an answer; 0 and nothing where there is none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    return answer.status, told if isinstance(told, dict) else {}
