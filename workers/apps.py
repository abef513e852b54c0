"""The Django app of the workers: it holds management commands, no models."""

from __future__ import annotations

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """The Celery application, the dispatcher and the supervisor."""

    name = "workers"
    verbose_name = "Workers"
