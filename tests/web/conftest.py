"""A tenant with task types and workers, and browsers that are logged in as its people."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks.models import TaskType
from tests.tasks.api.work import publish_types, start_platform
from tests.tenants.callers import World, world

__all__ = ["world"]

PAGE = {"Accept": "text/html"}
Browser = Callable[[str], Client]


@pytest.fixture
def log_in(world: World) -> Browser:
    """Return a client that is logged in as somebody of the world, in a yard that can run tasks."""
    publish_types()
    start_platform()

    def enter(name: str) -> Client:
        client = Client(headers=PAGE)
        client.force_login(User.objects.get(username=name))
        return client

    return enter


@pytest.fixture
def rich_type(log_in: Browser) -> TaskType:
    """A task type whose schema has every kind of field."""
    text = {"type": "string"}
    return TaskType.objects.create(
        name="deploy.site",
        title="Deploy a site",
        queue="critical",
        handler="nowhere:nothing",
        params_schema={
            "type": "object",
            "additionalProperties": False,
            "required": ["target"],
            "properties": {
                "target": {**text, "description": "Where to."},
                "count": {"type": "integer", "default": 1, "minimum": 1},
                "ratio": {"type": "number", "default": 0.5},
                "force": {"type": "boolean", "default": False},
                "level": {"enum": ["low", "high"], "default": "low"},
                "paths": {"type": "array", "items": text, "default": []},
                "extra": {"type": "object", "default": {}},
                "script": {"anyOf": [{"type": "array", "items": text}, text], "default": ""},
            },
        },
    )
