"""The benchmarks, in the order in which they run, and how long each may take.

Every other module of this folder serves one of these; a test sees to it that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.decisions import decision_targets
from bench.report import Target

BUDGET_SECONDS = 900
"""For all parts together."""


@dataclass(frozen=True)
class Part:
    """One benchmark: its module, its arguments, and about how many seconds it takes.

    A part with ``read`` writes no report: what it prints are its details, and ``read`` finds the targets
    in them.
    """

    name: str
    title: str
    seconds: int
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    read: Callable[[str], list[Target]] | None = None

    @property
    def patience(self) -> int:
        """Seconds after which it is given up, so that one that hangs does not hide the others."""
        return 120 + 3 * self.seconds


PARTS = (
    Part("lifecycle", "Whole runs, against other systems", 240),
    Part("latency", "From the POST to the handler's first line", 120),
    Part(
        "dispatcher",
        "Decisions of the dispatcher",
        140,
        full=("--full",),
        quick=("--ready", "60000", "--turns", "1", "--held", "3"),
        read=decision_targets,
    ),
    Part("fairness", "Shares and waits", 150),
    Part("limits", "Limits under concurrency", 50),
    Part("submit", "Submissions", 50),
    Part("lists", "Lists", 90),
    Part("worker_pool", "The worker pool alone", 60, full=("--tasks", "400", "--paced", "30")),
)
