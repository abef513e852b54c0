"""When beat rings for the platform's own tasks (workers.system).

Messages expire before the next one is due, so that none pile up while the system worker is away.
"""

from __future__ import annotations

from typing import Any

MINUTE = 60.0
HOUR = 60 * MINUTE

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "system: partitions of history": {
        "task": "workers.system.partitions",
        "schedule": 6 * HOUR,
        "options": {"queue": "system", "expires": HOUR},
    },
    "system: content of files that are gone": {
        "task": "workers.system.files",
        "schedule": 15.0,
        "options": {"queue": "system", "expires": 15.0},
    },
    "system: results and history that are too old": {
        "task": "workers.system.retention",
        "schedule": 10 * MINUTE,
        "options": {"queue": "system", "expires": 10 * MINUTE},
    },
    "system: forget what has expired": {
        "task": "workers.system.prune",
        "schedule": 10 * MINUTE,
        "options": {"queue": "system", "expires": 10 * MINUTE},
    },
}
