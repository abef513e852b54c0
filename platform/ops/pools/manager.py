"""Run this machine's worker processes until asked to stop.

1. Find the isolation level, and refuse to start below the required minimum.
2. Start the pooler of connections and whoever announces for supervisors, then the Celery workers that
   give each pool its size, and more or fewer of them as the sizes change (in :mod:`ops.pools.scaling`).
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

from ops.pools.announcing import Announcing
from ops.pools.connections import pooled_connections
from ops.pools.housekeeping import Housekeeping
from ops.pools.machine import this_machine
from ops.pools.records import Records
from ops.pools.rolling import Rolling
from ops.pools.scaling import Scaling, Sizes
from ops.pools.workers import WorkerPlan, pulse, seconds_to_stop, worker_program
from ops.services import Service
from ops.supervision.programs import Watched
from ops.supervision.watch import LOOK_EVERY, Interrupted, Watch

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 5.0
POOLER_SECONDS = 3.0
FIRST_LOOK_SECONDS = 3.0
"""Without an answer of the database by then the pools start by the setting."""

LOOK_SOON = 0.1
"""How long the manager sleeps at most while a worker is starting."""


class Manager:
    """The pool manager of one machine.

    ``services``: where the platform's own listen. ``sizes``: of its pools. ``folder`` holds heartbeat
    files, ``logs`` the workers' logs (None: the manager's own output), ``directory`` is where workers
    start. ``drain`` and ``cancel_grace`` in seconds.
    """

    def __init__(
        self,
        *,
        database_url: str,
        services: tuple[Service, ...],
        sizes: Sizes,
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
        self.plans: dict[str, WorkerPlan] = {}
        self.sizes = sizes
        self.records = Records(self.machine, types, Housekeeping(workspaces))
        self.folder = folder
        self.logs = logs
        self.directory = directory
        self.database_url = database_url
        self.services = services
        self.connections = pooled_connections(
            database_url, preferred=folder / "sockets", directory=directory, logs=logs
        )
        # Beside the pooler's socket, whose folder only the workers' account can enter.
        self.announcing = Announcing(self.connections.folder / "announce") if self.connections else None
        self.stop_seconds = seconds_to_stop(drain, cancel_grace)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        self.records.start()
        if self.announcing:
            self.announcing.start()
        with Watch(logger.warning) as watch:
            start = partial(self._start_one, watch)
            rolling = Rolling(self.plans, start, _is_up)
            scaling = Scaling(self.plans, start, self.sizes)
            with suppress(Interrupted):
                self._prepare(watch)
            while not watch.stop_requests:
                soon = scaling.turn(watch, self.records.seen(), rolling.pair)
                self.records.pools(
                    scaling.reports,
                    capacity=scaling.capacity,
                    capacity_set=self.sizes.capacity is not None,
                )
                watch.turn(LOOK_SOON if soon else LOOK_EVERY)
                rolling.ask(self.records.to_drain())
                rolling.turn(watch)
                self._report(watch)
                # Who watches this folder for heartbeats (docker) finds one also while no worker runs.
                (self.folder / "manager").touch()
            logger.info("draining")
            watch.stop(list(self.plans), meanwhile=partial(self._report, watch, draining=True))
            # Only now: runs that end while their worker drains still write through it.
            watch.stop()
            if self.announcing:
                self.announcing.stop()
            if self.connections:
                self.connections.remove()
            watch.end_strays()
            self.records.now([], draining=True, clean=True)
            self.records.finish(seconds=LAST_WORDS_SECONDS)

    def _prepare(self, watch: Watch) -> None:
        """Start the pooler, and learn how the pools were scaled before."""
        if self.connections:
            watch.add(self.connections.program)
            watch.until(self.connections.ready, seconds=POOLER_SECONDS)
        watch.until(lambda: self.records.seen() is not None, seconds=FIRST_LOOK_SECONDS)
        logger.info("workers run at isolation %s", self.machine.isolation)

    def _start_one(self, watch: Watch, what: WorkerPlan) -> Watched:
        return watch.add(
            worker_program(
                what,
                database_url=self.connections.url if self.connections else self.database_url,
                services=self.services,
                host=self.machine.host,
                announcer=self.announcing.path if self.announcing else None,
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
