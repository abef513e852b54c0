"""The Django app of tasks."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Tasks, runs, events and the tables of dispatching."""

    name = "tasks"
    verbose_name = "Tasks"
