"""Who leads: one row with an epoch that every commit of a leader is checked against.

A lease alone is no fence: a process that was paused believes in its lease until it looks. The epoch
in the row is what its statements are checked against, so a paused former leader changes nothing.
"""

from __future__ import annotations

import os
import socket

from django.db import connection

LEASE_SECONDS = 3.0
RENEW_SECONDS = 1.0


class Leadership:
    """One process's claim to lead ``name``; ``epoch`` is None while another leads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.epoch: int | None = None

    def acquire(self) -> bool:
        """Take the lead if nobody has renewed it within :data:`LEASE_SECONDS`."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE leader SET epoch = epoch + 1, holder = %s, renewed_at = clock_timestamp()"
                " WHERE name = %s AND renewed_at < clock_timestamp() - make_interval(secs => %s)"
                " RETURNING epoch",
                [self.holder, self.name, LEASE_SECONDS],
            )
            row = cursor.fetchone()
        self.epoch = row[0] if row else None
        return self.epoch is not None

    def renew(self) -> bool:
        """Keep the lead; return False, and have lost it, if another has taken it."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE leader SET renewed_at = clock_timestamp() WHERE name = %s AND epoch = %s",
                [self.name, self.epoch],
            )
            if not cursor.rowcount:
                self.epoch = None
        return self.epoch is not None

    def resign(self) -> None:
        """Give the lead up at once, so that a standby need not wait for the lease."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE leader SET renewed_at = 'epoch' WHERE name = %s AND epoch = %s",
                [self.name, self.epoch],
            )
        self.epoch = None
