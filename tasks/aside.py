"""Setting aside what cannot be handled now, so that one bad row does not hold up all the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import structlog

from rest.database_errors import is_away
from rest.ties import is_tie

Key = TypeVar("Key")
Row = TypeVar("Row")
Done = TypeVar("Done")

SECONDS = 30.0
"""How long a row is left alone after its handling has failed."""

log = structlog.get_logger(__name__)


class Aside(Generic[Key]):
    """The rows of one kind whose handling has failed lately, by their keys.

    ``what`` names the kind in the log. An outage is no row's fault: it goes on to the caller.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._until: dict[Key, float] = {}

    def keys(self) -> list[Key]:
        """Return the rows that are to be left alone now; a query leaves them out, or its limit would
        be filled with them."""
        now = self._clock()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return list(self._until)

    def __contains__(self, key: Key) -> bool:
        return self._until.get(key, 0.0) > self._clock()

    @contextmanager
    def trying(self, key: Key) -> Iterator[None]:
        """Handle one row in this block; if it raises, that is logged and the row set aside.

        One that has lost a tie may succeed at once, and is only left out.

        Raises:
            django.db.Error: the database is away.
        """
        try:
            yield
        except Exception as error:
            if is_away(error):
                raise
            log.exception("row_set_aside", what=self._what, row=str(key))
            if not is_tie(error):
                self._until[key] = self._clock() + SECONDS

    def together(
        self, rows: Sequence[Row], key: Callable[[Row], Key], act: Callable[[Sequence[Row]], list[Done]]
    ) -> list[Done]:
        """Return what ``act`` makes of all rows at once, or, if that raises, of each by itself.

        Raises:
            django.db.Error: the database is away, or a tie was lost, which is no row's fault.
        """
        try:
            return act(rows)
        except Exception as error:
            if is_tie(error) or is_away(error):
                raise
        done: list[Done] = []
        for row in rows:
            with self.trying(key(row)):
                done += act([row])
        return done
