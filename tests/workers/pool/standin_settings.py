"""The little of Django's settings that the Celery application reads, without a database."""

from __future__ import annotations

import os
from types import SimpleNamespace

SECRET_KEY = "not-secret"
INSTALLED_APPS: list[str] = []
SWITCHYARD = SimpleNamespace(
    broker="redis://127.0.0.1:6379/0", role=os.environ.get("SWITCHYARD_ROLE", "manage")
)
