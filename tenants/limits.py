"""The shape of a tenant's limits: one row for the whole tenant and one per queue."""

from __future__ import annotations

QUEUES = ("critical", "normal", "batch")
QUEUE_LIMITS = ("running", "min_running", "queued")
WHOLE = ""  # the `queue` of the row that holds for all queues together
DEFAULT_WEIGHT = 1.0
WINDOWED = "batch"  # the queue that can be held for off-peak windows
