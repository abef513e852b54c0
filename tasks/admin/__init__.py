"""Tasks in the Django admin: everything can be looked at, nothing edited.

A status, an epoch or a row of a hot table that is changed by hand breaks what the database and the
dispatcher rely on; what operators may do are actions, and those go through the services. Events and
log chunks have composite keys, which the admin cannot register: a task shows its events itself.
"""

from __future__ import annotations

from tasks.admin.dispatching import (
    BacklogAdmin,
    InflightAdmin,
    LaneAdmin,
    LaterAdmin,
    LeaderAdmin,
    ParkedAdmin,
    ReadyAdmin,
)
from tasks.admin.routing import EstimateAdmin, RouteAdmin
from tasks.admin.runs import RunAdmin
from tasks.admin.tasks import DependencyAdmin, TaskAdmin
from tasks.admin.workers import PoolBoundsAdmin, PoolMachineAdmin, TaskTypeAdmin, WorkerAdmin

__all__ = [
    "BacklogAdmin",
    "DependencyAdmin",
    "EstimateAdmin",
    "InflightAdmin",
    "LaneAdmin",
    "LaterAdmin",
    "LeaderAdmin",
    "ParkedAdmin",
    "PoolBoundsAdmin",
    "PoolMachineAdmin",
    "ReadyAdmin",
    "RouteAdmin",
    "RunAdmin",
    "TaskAdmin",
    "TaskTypeAdmin",
    "WorkerAdmin",
]
