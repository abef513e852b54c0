"""What a supervisor does while it waits for its task, so that the task need not wait for it.

A forked child copies each page of its parent's memory when it first writes to it, and Python writes to
whatever it looks at: 2,000 pages, 4 µs each, many of them between the message and the handler's first
line. A child that has nothing to do goes through the same code for a task that does not exist: the
database is asked and finds nothing, and nothing is written, announced or started.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime

from django.db import Error as DatabaseError
from django.db import connection

from tasks.errors import Fenced
from tasks.services.append import append
from tasks.services.claim import claim
from workers.supervisor.lease import LeaseWatch
from workers.supervisor.output import Output

NO_TASK = uuid.UUID(int=0)


def rehearse() -> None:
    """Ask for a task that does not exist, and try to store a line of it."""
    lease = LeaseWatch(1.0, since=time.monotonic())
    output = Output(cap=1024)
    output.feed("stdout", b"\n", datetime.now(UTC))
    try:
        claim(NO_TASK, 0, "", queue="", worker=NO_TASK, machine="", isolation="", pid=0)
        with suppress(Fenced):
            append(NO_TASK, 0, output.take())
    except DatabaseError:
        connection.close()  # the claim of the task connects anew
    finally:
        lease.stop()
