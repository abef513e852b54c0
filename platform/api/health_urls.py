"""The addresses of the health probes; ``config.urls`` includes them at the root."""

from __future__ import annotations

from django.urls import path

from api.health import live, ready

urlpatterns = [
    path("health/live", live, name="health-live"),
    path("health/ready", ready, name="health-ready"),
]
