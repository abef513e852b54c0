"""The app of tenants."""

from __future__ import annotations

from django.apps import AppConfig, apps


class TenantsConfig(AppConfig):
    """Loads the OpenAPI description of our authentication, where there is an API to describe."""

    name = "tenants"

    def ready(self) -> None:
        if apps.is_installed("drf_spectacular"):
            from tenants.api import openapi  # noqa: F401 - registers itself
