"""The addresses of sockets. What matches none is answered too, so that a browser learns why."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import URLPattern, path, re_path

import rest.converters  # noqa: F401 - registers <id:> and <name:>
from live.sockets import feed_socket, task_socket, unknown_socket

SOCKETS: list[URLPattern] = [
    path("ws/v1/tenants/<name:tenant>/tasks/<id:task_id>", task_socket),  # type: ignore[arg-type]
    path("ws/v1/tenants/<name:tenant>/feed", feed_socket),  # type: ignore[arg-type]
]

application: Any = URLRouter([*SOCKETS, re_path("", unknown_socket)])  # type: ignore[arg-type]


def socket_tenant(address: str) -> str | None:
    """Return the slug of the tenant in a socket's path; ``None`` when it is no socket's."""
    for pattern in SOCKETS:
        found = pattern.pattern.match(address.removeprefix("/"))
        if found and address.startswith("/"):
            return str(found[2]["tenant"])
    return None
