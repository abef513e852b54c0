"""What a supervisor does, done before the first one is forked, so that all of them do it faster.

Python replaces a function's instructions by faster ones once it has run often enough (PEP 659). A
supervisor runs most functions once and would never have those; it inherits them from a process that has.
What is rehearsed concerns a task that does not exist, so the database changes nothing and is told
nothing, and the workspace is wiped like any other.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from tasks.errors import Fenced
from tasks.outcomes import Outcome
from tasks.services.append import Lines, append
from tasks.services.claim import Claimed, asked, claim, renew
from tasks.services.finish import finish_alone
from tasks.states import RunStatus
from workers.handlers import shell
from workers.sandbox.identity import release_identities
from workers.sandbox.workspace import id_of_no_task
from workers.supervisor.guard import try_out
from workers.supervisor.place import Place, isolation_level
from workers.supervisor.verdict import SHELL

TIMES = 10
"""Python 3.11 looks for faster instructions at the eighth call, and finds most at the next."""

log = structlog.get_logger(__name__)


def rehearse() -> None:
    """Go through runs that do nothing; whatever goes wrong there is a real run's to tell."""
    if settings.SWITCHYARD.fault_points:
        return  # they are for real runs
    place = Place(uuid.uuid4(), "", "", os.getpid(), isolation_level())
    try:
        for _ in range(TIMES):
            _guard_nothing(place)
        for _ in range(TIMES):
            _ask_for_nothing(place)
    except (DatabaseError, Fenced) as error:
        # The database is away; or this machine is so slow that the run was asked after.
        log.info("rehearsal_cut_short", error=str(error))
    except Exception:
        log.exception("rehearsal_failed")
    finally:
        # The next process to fork must have neither.
        connection.close()
        release_identities()


def _guard_nothing(place: Place) -> None:
    """Guard a command that ends at once, as if it had been claimed."""
    try_out(
        Claimed(
            task_id=id_of_no_task(),
            tenant_id=0,
            tenant="",
            type=SHELL,
            queue="",
            attempt=1,
            epoch=1,
            run_id=uuid.uuid4(),
            params={"command": ["true"]},
            idempotent=True,
            time_limit=None,
            limits={},
            inputs=[],
            secrets=[],
            checkpoint=None,
            request_id="",
            handler=f"{shell.__name__}:{shell.run_command.__name__}",
            steering=False,
            params_schema=None,
            type_network=False,
            on_shutdown="",
            tenant_network=False,
            started_at=datetime.now(UTC),
        ),
        place,
    )
    release_identities()


def _ask_for_nothing(place: Place) -> None:
    """Put a supervisor's questions, about a task that does not exist."""
    task = id_of_no_task()
    claim(
        task,
        1,
        "",
        queue=place.queue,
        worker=place.worker,
        machine=place.machine,
        isolation=place.level.value,
        pid=place.pid,
    )
    renew(task, 1)
    asked(task, 1)
    said = Lines(datetime.now(UTC), "stdout", 1, ("",), (0,))
    with suppress(Fenced):
        append(task, 1, [said])
    with suppress(Fenced):
        finish_alone(task, 1, Outcome(RunStatus.COMPLETED))
    connection.close()
