"""The Celery application: one task that carries tenants' work, and the platform's own.

`python -m workers worker -Q normal -c 4` serves a pool. With `SWITCHYARD_ROLE=system`, `celery -A
workers worker -Q system -c 2` serves the platform's tasks with children that are kept. The
dispatcher publishes ``workers.supervise`` with a task id, an epoch and a token (`dispatcher.publisher`).
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

from workers import broker, worker_steps
from workers.celery_settings import celery_settings
from workers.messages import supervise_arguments

__all__ = ("SUPERVISE", "app")

#: The registered name of the one Celery task that carries tenants' work.
SUPERVISE = "workers.supervise"

ONE_SHOT = settings.SWITCHYARD.role != "system"

# Celery's command puts BROKER_URL here as it stands, over the settings, where a unix:// address has
# been made one that kombu reads.
os.environ.pop("CELERY_BROKER_URL", None)

# Django's checks are for whoever changes the code, and import the web's half of it: 12 MiB that each
# fork of a worker would pay for.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

broker.install()

app = Celery("switchyard")
app.config_from_object(celery_settings(settings.SWITCHYARD.broker, one_shot=ONE_SHOT))
worker_steps.install(app)


def supervise(task_id: str, epoch: int, token: str) -> None:
    """Claim and guard one run; everything about it is in PostgreSQL, so nothing is returned."""
    from workers.supervisor import supervise as guard_run

    guard_run(task_id, epoch, token)


if ONE_SHOT:
    # A worker that keeps its children does not even know tenants' work.
    app.task(name=SUPERVISE, argument_rule=staticmethod(supervise_arguments), untraced=True)(supervise)


@signals.setup_logging.connect(weak=False, dispatch_uid="workers.celery_app.logging")
def leave_logging_alone(**_signal: Any) -> None:
    """Celery configures logging unless somebody listens to this; Django's LOGGING has done it."""
