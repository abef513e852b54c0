"""``manage.py dispatch``: run a dispatcher (one leads, others stand by)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from workers.dispatcher.loop import main


class Command(BaseCommand):
    """Run a dispatcher until SIGTERM or Ctrl-C."""

    help = "Run a dispatcher: one leads, the others stand by."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        main()
