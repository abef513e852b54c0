"""Storing what a run says, and asking after the run, also while the database is away for a while."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import structlog
from django.db import InterfaceError, OperationalError, connection

from tasks.errors import Fenced
from tasks.services.append import Progress, Said, append
from tasks.services.claim import Claimed
from workers.supervisor.output import Output

FLUSH_SECONDS = 0.1
"""Output is stored at once after a pause, and at most this late while it keeps coming."""

FINAL_PATIENCE_SECONDS = 600
"""How long a run's last words are tried to be stored while the database is away."""

BATCH_BYTES = 512 * 1024
"""With this much output it is stored before more is read: one transaction must not outlast a renewal."""

PENDING_CAP = 4 * 1024 * 1024
"""With this much output not stored yet (the database is away), no more is taken."""

log = structlog.get_logger(__name__)


class Storing:
    """What one run has said and the database does not know yet; raises Fenced once the run is over."""

    def __init__(self, claimed: Claimed, output: Output) -> None:
        self._claimed = claimed
        self._output = output
        self._said: list[Said] = []
        self._said_bytes = 0
        #: Whether some of it may be stored all the same: the answer to a COMMIT was lost.
        self._unheard = False
        self._flushed_at = 0.0
        self.database_down = False

    @property
    def next(self) -> float | None:
        """When something is to be stored (monotonic); None while there is nothing."""
        if not (self._said or self._output.pending_bytes):
            return None
        return self._flushed_at + FLUSH_SECONDS

    @property
    def full(self) -> bool:
        """Whether so much waits for the database that the handler must wait as well."""
        return self.database_down and self._said_bytes + self._output.pending_bytes > PENDING_CAP

    def add(self, said: Said) -> None:
        """Keep one thing for the next flush; of a burst of progress only the newest is worth a row."""
        if isinstance(said, Progress) and self._said and isinstance(self._said[-1], Progress):
            self._said.pop()
        self._said.append(said)

    def flush(self, *, final: bool = False) -> None:
        """Store what has come in; while the database is away, keep it and try again later.

        Raises:
            Fenced: another attempt has taken over.
            OperationalError: ``final``, and the database was away for too long.
        """
        due = self.next
        if due is None:
            return
        began = time.monotonic()
        batch = self._output.pending_bytes >= BATCH_BYTES and not self.database_down
        if not (final or batch) and began < due:
            return
        self._said_bytes += self._output.pending_bytes
        self._said.extend(self._output.take())
        while self._said:
            try:
                append(self._claimed.task_id, self._claimed.epoch, self._said, again=self._unheard)
                self._said, self._said_bytes = [], 0
                self._unheard = False
                self.database_down = False
            except (OperationalError, InterfaceError) as error:
                self._lost_database(error)
                self._unheard = True
                if not final:
                    break
                if time.monotonic() > began + FINAL_PATIENCE_SECONDS:
                    raise
                time.sleep(0.2)
        self._flushed_at = time.monotonic()

    def answer_of(self, question: Callable[[uuid.UUID, int], str | None]) -> str | None:
        """Put a question about the run (`renew`, `asked`); None while the database is away.

        Raises:
            Fenced: another attempt has taken over.
        """
        try:
            answer = question(self._claimed.task_id, self._claimed.epoch)
        except (OperationalError, InterfaceError) as error:
            self._lost_database(error)
            return None
        self.database_down = False
        if answer is None:
            raise Fenced
        return answer

    def _lost_database(self, error: Exception) -> None:
        if not self.database_down:
            log.warning("database_unreachable", error=str(error))
        self.database_down = True
        connection.close()
