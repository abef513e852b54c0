"""Live views below ``/api/v1/tenants/{tenant}/``; ``config.urls`` puts them before the JSON views."""

from __future__ import annotations

from django.urls import path

import rest.converters  # noqa: F401 - registers <id:> and <name:>
from live.api import WsTicket
from live.negotiation import negotiate
from live.streams import events_stream, log_stream
from live.waiting import wait
from tasks.api.history import EventsView, LogView

TASK = "api/v1/tenants/<name:tenant>/tasks/<id:task_id>"

urlpatterns = [
    path(f"{TASK}/events", negotiate(events_stream, EventsView.as_view())),
    path(f"{TASK}/log", negotiate(log_stream, LogView.as_view())),
    path(f"{TASK}/wait", wait, name="task-wait"),  # type: ignore[arg-type]
    path("api/v1/tenants/<name:tenant>/ws-ticket", WsTicket.as_view(), name="ws-ticket"),
]
