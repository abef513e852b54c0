"""What a client asks for when it submits a task: the checked request, and the type's defaults.

Plain rules: no Django, no database.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for a task. None means "what the type says"; times are aware, durations seconds."""

    type: str
    params: dict[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    scheduled_for: datetime | None = None
    depends_on: tuple[uuid.UUID, ...] = ()
    on_parent_failure: str = "cancel"
    key: str | None = None
    key_policy: str = "reject"
    max_retries: int | None = None
    retry: dict[str, Any] | None = None
    idempotent: bool | None = None
    preemptible: bool | None = None
    time_limit: float | None = None
    queue_timeout: float | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def effective_retries(asked: int | None, type_retries: int, *, idempotent: bool) -> int:
    """Return ``max_retries``: what was asked, else the type's, which counts for idempotent tasks."""
    if asked is not None:
        return asked
    return type_retries if idempotent else 0
