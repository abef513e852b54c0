"""What the peers run: one query on PostgreSQL, as a job of RQ, of Celery and of Procrastinate.

Imported by their workers in `.venv-bench`, which has their public packages and nothing of ours. It
loads Django and the REST framework first, because a worker of a Django project has them, and a fork
costs by what is loaded.

``PEER_REDIS``, ``PEER_DATABASE`` and ``PEER_JOURNAL`` say where; each job appends its number, its
begin and its end to the journal.
"""

from __future__ import annotations

import os
import time

import celery
import django
import procrastinate
import psycopg
from django.conf import settings

HEAP = ("rest_framework.views", "rest_framework.generics", "rest_framework.serializers")
REDIS = os.environ["PEER_REDIS"]
DATABASE = os.environ["PEER_DATABASE"]
JOURNAL = os.environ["PEER_JOURNAL"]

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"]
    )
    django.setup()
    for module in HEAP:
        __import__(module)

_kept: psycopg.Connection | None = None


def one_query(number: int) -> None:
    """Ask PostgreSQL one thing over the process's own connection, and write the times down.

    In a process that lives for one job the connection is always a new one; one that is kept keeps it.
    """
    global _kept
    began = time.time()
    if _kept is None:
        _kept = psycopg.connect(DATABASE, autocommit=True)
    _kept.execute("SELECT 1").fetchone()
    note(number, began)


def note(number: int, began: float) -> None:
    """Append a job's number, begin and end to the journal; one append is atomic."""
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, f"{number} {began} {time.time()}\n".encode())
    os.close(journal)


celery_app = celery.Celery("peer", broker=REDIS, set_as_current=False)
# Results are in the journal; everything else is as it comes.
celery_app.conf.task_ignore_result = True
celery_app.conf.worker_hijack_root_logger = False
celery_app.task(name="peer.one_query")(one_query)

procrastinate_app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=psycopg.conninfo.make_conninfo(DATABASE, options="-c search_path=peer")
    )
)
procrastinate_app.task(name="peer.one_query", queue="peer")(one_query)
