"""The Django app of the web UI; it has no tables."""

from __future__ import annotations

from django.apps import AppConfig


class WebConfig(AppConfig):
    """Templates, static files and pages."""

    name = "web"
    verbose_name = "Web"
