"""The addresses of tasks: below a tenant, and for operators."""

from __future__ import annotations

from django.urls import path

import rest.converters  # noqa: F401 - registers `id`, `name`, `number`, `word`
from tasks.api.actions import TaskCancel, TaskRetry
from tasks.api.artifacts import Artifact, ArtifactList
from tasks.api.bulk import BulkCancel, BulkRetry
from tasks.api.history import EventsView, LogView
from tasks.api.inputs import TaskInput, TaskSubmit
from tasks.api.maintenance import OperatorMaintenance
from tasks.api.operator import (
    OperatorLanes,
    OperatorQueues,
    OperatorTasks,
    OperatorWorkerDrain,
    OperatorWorkers,
)
from tasks.api.pauses import OperatorPauses, QueuePause, QueueResume, TypePause, TypeResume
from tasks.api.pools import OperatorPools
from tasks.api.routes import RouteDetail, Routes
from tasks.api.runs import RunDetail, RunList
from tasks.api.task_types import TaskTypeDetail, TaskTypeList
from tasks.api.tasks import TaskDetail, TaskList
from tasks.api.usage import Usage
from tasks.api.windows import TypeWindows, WindowsOfTenants, WindowsOfTypes

tenant_urlpatterns = [
    path("tasks", TaskList.as_view(), name="tasks"),
    path("tasks/actions/cancel", BulkCancel.as_view(), name="tasks-cancel"),
    path("tasks/actions/retry", BulkRetry.as_view(), name="tasks-retry"),
    path("tasks/<id:task_id>", TaskDetail.as_view(), name="task"),
    path("tasks/<id:task_id>/cancel", TaskCancel.as_view(), name="task-cancel"),
    path("tasks/<id:task_id>/retry", TaskRetry.as_view(), name="task-retry"),
    path("tasks/<id:task_id>/runs", RunList.as_view(), name="runs"),
    path("tasks/<id:task_id>/runs/<number:attempt>", RunDetail.as_view(), name="run"),
    path("tasks/<id:task_id>/events", EventsView.as_view(), name="events"),
    path("tasks/<id:task_id>/log", LogView.as_view(), name="log"),
    path("tasks/<id:task_id>/artifacts", ArtifactList.as_view(), name="artifacts"),
    path("tasks/<id:task_id>/artifacts/<id:artifact_id>", Artifact.as_view(), name="artifact"),
    path("tasks/<id:task_id>/inputs/<word:name>", TaskInput.as_view(), name="input"),
    path("tasks/<id:task_id>/submit", TaskSubmit.as_view(), name="task-submit"),
    path("task-types", TaskTypeList.as_view(), name="task-types"),
    path("task-types/<word:type_name>", TaskTypeDetail.as_view(), name="task-type"),
    path("usage", Usage.as_view(), name="usage"),
]

operator_urlpatterns = [
    path("tasks", OperatorTasks.as_view(), name="operator-tasks"),
    path("workers", OperatorWorkers.as_view(), name="operator-workers"),
    path("workers/<str:worker>/drain", OperatorWorkerDrain.as_view(), name="operator-worker-drain"),
    path("pools", OperatorPools.as_view(), name="operator-pools"),
    path("queues", OperatorQueues.as_view(), name="operator-queues"),
    path("queues/<word:name>/pause", QueuePause.as_view(), name="operator-queue-pause"),
    path("queues/<word:name>/resume", QueueResume.as_view(), name="operator-queue-resume"),
    path("task-types/<word:name>/pause", TypePause.as_view(), name="operator-type-pause"),
    path("task-types/<word:name>/resume", TypeResume.as_view(), name="operator-type-resume"),
    path("task-types/<word:name>/windows", TypeWindows.as_view(), name="operator-type-windows"),
    path("windows/types", WindowsOfTypes.as_view(), name="operator-windows-types"),
    path("windows/tenants", WindowsOfTenants.as_view(), name="operator-windows-tenants"),
    path("routes", Routes.as_view(), name="operator-routes"),
    path("routes/<name:name>", RouteDetail.as_view(), name="operator-route"),
    path("pauses", OperatorPauses.as_view(), name="operator-pauses"),
    path("maintenance", OperatorMaintenance.as_view(), name="operator-maintenance"),
    path("lanes", OperatorLanes.as_view(), name="operator-lanes"),
]
