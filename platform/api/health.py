"""``/health/live`` and ``/health/ready``: is this process there, and can the platform do its work?

Both are open to everybody and tell nothing about tenants.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import psycopg
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from rest.errors import MethodNotAllowed, Unavailable
from rest.patience import PatientConnection, patient
from rest.problems import problem_response

CONNECT_SECONDS = 2
SILENCE_SECONDS = 0.8
"""Together below three seconds: a probe that waits longer is no answer."""


class NotReady(Unavailable):
    """Something that every task needs is missing; ``missing`` in the answer names it."""

    code = "not_ready"
    title = "Not ready"


@csrf_exempt
async def live(request: HttpRequest) -> HttpResponse:
    """Answer without asking anything: the process serves requests."""
    refused = _refuse_method(request)
    return refused or JsonResponse({"status": "live"}, headers={"Cache-Control": "no-store"})


@csrf_exempt
def ready(request: HttpRequest) -> HttpResponse:
    """Answer 200 when the database answers, is migrated, and some task type can be submitted."""
    refused = _refuse_method(request)
    if refused is not None:
        return refused
    missing = what_is_missing()
    if missing:
        sentences = " ".join(missing.values())
        problem = NotReady(sentences, retry_after=2, missing=sorted(missing))
        problem.headers["Cache-Control"] = "no-store"
        return problem_response(problem, request)
    return JsonResponse({"status": "ready"}, headers={"Cache-Control": "no-store"})


def what_is_missing() -> dict[str, str]:
    """Return a sentence for each of ``database``, ``migrations``, ``task_types`` that is missing.

    It asks over a connection of its own: one from the pool may be held by a server that stopped
    answering, and would keep the probe waiting with it.
    """
    try:
        with (
            patient(SILENCE_SECONDS),
            PatientConnection.connect(**_connection_parameters()) as probe,
            probe.cursor() as cursor,
        ):
            return _missing_inside(cursor)
    except psycopg.Error:
        return {"database": "The database does not answer."}


def _missing_inside(cursor: psycopg.Cursor[Any]) -> dict[str, str]:
    cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
    applied: set[tuple[str, str]] = set()
    if cursor.fetchone() == (True,):
        cursor.execute("SELECT app, name FROM django_migrations")
        applied = set(cursor.fetchall())
    open_ones = newest_migrations() - applied
    if open_ones:
        names = ", ".join(sorted(f"{app}.{name}" for app, name in open_ones))
        return {"migrations": f"Migrations are not applied: {names}."}
    cursor.execute("SELECT EXISTS (SELECT 1 FROM task_type)")
    if cursor.fetchone() != (True,):
        return {"task_types": "No worker has published a task type yet."}
    return {}


@cache
def newest_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app; they are files, so they are read once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def _connection_parameters() -> dict[str, Any]:
    parameters = dict(connection.get_connection_params())
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    return {
        **parameters,
        "connect_timeout": CONNECT_SECONDS,
        "autocommit": True,
    }


def _refuse_method(request: HttpRequest) -> HttpResponse | None:
    if request.method in ("GET", "HEAD"):
        return None
    return problem_response(MethodNotAllowed(headers={"Allow": "GET, HEAD"}), request)
