"""Run this machine's worker processes until asked to stop.

1. Find the isolation level, and refuse to start below the required minimum.
2. Start the pooler of connections, then one Celery worker (or more, by size) per pool.
3. Restart what dies; kill and restart what hangs; replace what an operator drains.
4. Keep the worker rows right, end orphans, wipe left workspaces (in :mod:`ops.pools.records`).
5. On SIGTERM let all workers drain at once; kill what is left after drain, grace and margin.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ops.pools.connections import pooled_connections
from ops.pools.housekeeping import Housekeeping
from ops.pools.machine import this_machine
from ops.pools.records import Records
from ops.pools.rolling import Rolling
from ops.pools.workers import STOP_MARGIN, WorkerPlan, plan, pulse, worker_program
from ops.supervision.programs import Watched
from ops.supervision.watch import Interrupted, Watch

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 5.0
START_APART_SECONDS = 3.0


class Manager:
    """The pool manager of one machine.

    ``pool_slots``: queue to slots. ``folder`` holds heartbeat files, ``logs`` the workers' logs
    (None: the manager's own output), ``directory`` is where workers start. ``drain`` and
    ``cancel_grace`` in seconds.
    """

    def __init__(
        self,
        *,
        database_url: str,
        pool_slots: dict[str, int],
        isolation: str,
        isolation_minimum: str,
        workspaces: Path,
        folder: Path,
        logs: Path | None,
        directory: Path,
        drain: float,
        cancel_grace: float,
        types: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.machine = this_machine(
            isolation=isolation, minimum=isolation_minimum, workspaces=workspaces
        )
        self.plans: dict[str, WorkerPlan] = {what.name: what for what in plan(pool_slots)}
        self.records = Records(self.machine, types, Housekeeping(workspaces))
        self.folder = folder
        self.logs = logs
        self.directory = directory
        self.database_url = database_url
        self.connections = pooled_connections(
            database_url, preferred=folder / "sockets", directory=directory, logs=logs
        )
        self.stop_seconds = drain + 2 * cancel_grace + STOP_MARGIN

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        self.records.start()
        with Watch(logger.warning) as watch:
            rolling = Rolling(self.plans, partial(self._start_one, watch), _is_up)
            with suppress(Interrupted):
                self._start(watch)
            while not watch.stop_requests:
                watch.turn()
                rolling.ask(self.records.to_drain())
                rolling.turn(watch)
                self._report(watch)
            logger.info("draining")
            watch.stop(list(self.plans), meanwhile=partial(self._report, watch, draining=True))
            # Only now: runs that end while their worker drains still write through it.
            watch.stop()
            if self.connections:
                self.connections.remove()
            watch.end_strays()
            self.records.now([], draining=True, clean=True)
            self.records.finish(seconds=LAST_WORDS_SECONDS)

    def _start(self, watch: Watch) -> None:
        """Start the workers one by one, in the order of the setting.

        Each waits a moment for the one before: on a small machine the first pool, which somebody
        waits for, would otherwise share the processors with all others' imports.
        """
        if self.connections:
            watch.add(self.connections.program)
            watch.until(self.connections.ready, seconds=START_APART_SECONDS)
        for what in self.plans.values():
            watched = self._start_one(watch, what)
            is_up = partial(_is_up, what, watched)
            watch.until(is_up, seconds=START_APART_SECONDS)
            self._report(watch)
        logger.info("%d workers at isolation %s", len(self.plans), self.machine.isolation)

    def _start_one(self, watch: Watch, what: WorkerPlan) -> Watched:
        return watch.add(
            worker_program(
                what,
                database_url=self.connections.url if self.connections else self.database_url,
                host=self.machine.host,
                isolation=self.machine.isolation,
                folder=self.folder,
                logs=self.logs,
                directory=self.directory,
                stop_seconds=self.stop_seconds,
            )
        )

    def _report(self, watch: Watch, *, draining: bool = False) -> None:
        found = [
            pulse(what, watch.programs[name])
            for name, what in self.plans.items()
            if name in watch.programs
        ]
        # Looked at after the pulses: whoever they call dead has left its orphans to us by now.
        clean = not watch.adopted()
        self.records.now([each for each in found if each], draining=draining, clean=clean)


def _is_up(what: WorkerPlan, watched: Watched) -> bool:
    return pulse(what, watched) is not None
