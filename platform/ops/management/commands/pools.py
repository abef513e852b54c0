"""``manage.py pools``: run this machine's worker processes until SIGTERM."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.pools.machine import usable_cores
from ops.pools.manager import Manager
from ops.pools.scaling import Sizes
from workers.publishing import described_types
from workers.sandbox import SandboxError
from workers.supervisor.place import workspace_root


class Command(BaseCommand):
    """The pool manager, one per machine."""

    help = "Run this machine's worker processes: start, drain and restart them."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--logs``."""
        parser.add_argument(
            "--logs", type=Path, help="folder for one log per worker (default: our own output)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the manager; too weak an isolation ends it with one sentence."""
        environment = settings.SWITCHYARD
        folder = environment.state / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            manager = Manager(
                database_url=environment.database_url,
                services=environment.services,
                sizes=Sizes(
                    environment.pool_bounds,
                    environment.capacity,
                    usable_cores(),
                    environment.pool_idle,
                ),
                isolation=environment.isolation,
                isolation_minimum=environment.isolation_minimum,
                workspaces=workspace_root(),
                folder=folder,
                logs=options["logs"],
                directory=Path(sys.argv[0]).resolve().parent,
                drain=environment.drain,
                cancel_grace=environment.cancel_grace,
                types=described_types(),
            )
        except SandboxError as error:
            raise CommandError(str(error)) from None
        manager.run()
