"""What the lanes of all queues share about tenants: limits, rates, what runs, how long types last.

Plain rules, no Django. The time is what :meth:`Tenants.tick` was last told, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tenants.windows import Windows
from workers.dispatcher.off_peak import Calendar

DEFAULT_SECONDS = 1.0
"""What a task of a type that nobody has seen yet is taken to last."""

EWMA_SHARE = 0.2
"""How much the newest run of a type counts in its estimated length."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What one lane may have: tasks at once (None: no limit), a guaranteed minimum, a weight.

    ``windows``: it may send only while they are open (None: always).
    """

    running: int | None = None
    min_running: int = 0
    weight: float = 1.0
    windows: Windows | None = None

    @property
    def holds(self) -> bool:
        """Whether any of these can hold the lane: a weight and a minimum cannot."""
        return self.running is not None or self.windows is not None


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may have over all queues."""

    running: int | None = None
    paused: bool = False
    dispatch_per_second: float | None = None
    lanes: Mapping[str, LaneLimits] = field(default_factory=dict)
    name: str = ""

    @property
    def holds(self) -> bool:
        """Whether any of it, apart from its lanes', can hold the tenant back."""
        return self.paused or self.running is not None or self.dispatch_per_second is not None


class Tenants:
    """What all queues share about the tenants: limits, what they run, how long types last."""

    def __init__(self) -> None:
        self._limits: Mapping[int, TenantLimits] = {}
        self._windowed: dict[Windows, list[int]] = {}
        self._running: dict[tuple[int, str], int] = {}
        self._totals: dict[int, int] = {}
        self._seconds: dict[int, float] = {}
        self.now = 0.0
        self.calendar = Calendar()
        self._buckets: dict[int, tuple[float, float]] = {}
        self._out_of_rate: dict[int, float] = {}

    def set_limits(self, limits: Mapping[int, TenantLimits]) -> None:
        """Replace all limits."""
        self._limits = limits
        self._windowed = {}
        for tenant_id, own in limits.items():
            for lane in own.lanes.values():
                if lane.windows is not None:
                    self._windowed.setdefault(lane.windows, []).append(tenant_id)

    def limits(self, tenant_id: int) -> TenantLimits:
        """Return a tenant's limits; one that is not known has none."""
        return self._limits.get(tenant_id, _UNLIMITED)

    def windows(self) -> set[Windows]:
        """Return the off-peak windows that some lane has."""
        return set(self._windowed)

    def with_windows(self, these: Iterable[Windows]) -> list[int]:
        """Return the tenants one of whose lanes has one of these off-peak windows."""
        return [tenant_id for windows in these for tenant_id in self._windowed.get(windows, ())]

    def tick(self, now: float) -> list[int]:
        """Set the time, in seconds, and return the tenants who may start a task again since then."""
        self.now = now
        back = [tenant_id for tenant_id, at in self._out_of_rate.items() if at <= now]
        for tenant_id in back:
            del self._out_of_rate[tenant_id]
        return back

    def next_token(self) -> float:
        """Return in how many seconds the next tenant that is out of rate may start a task again."""
        return max(0.0, min(self._out_of_rate.values(), default=math.inf) - self.now)

    def has_token(self, tenant_id: int, rate: float) -> bool:
        """Return whether a tenant may start a task: a bucket that holds one second's worth of them."""
        burst = max(1.0, rate)
        tokens, at = self._buckets.get(tenant_id, (burst, self.now))
        tokens = min(burst, tokens + rate * max(0.0, self.now - at))
        self._buckets[tenant_id] = (tokens, self.now)
        if tokens >= 1.0:
            return True
        self._out_of_rate[tenant_id] = self.now + (1.0 - tokens) / rate
        return False

    def start(self, tenant_id: int, queue: str) -> None:
        """Count a start; of tenants with a rate it takes a token."""
        key = (tenant_id, queue)
        self._running[key] = self._running.get(key, 0) + 1
        self._totals[tenant_id] = self._totals.get(tenant_id, 0) + 1
        if tenant_id in self._buckets:
            tokens, at = self._buckets[tenant_id]
            self._buckets[tenant_id] = (tokens - 1.0, at)

    def return_token(self, tenant_id: int) -> None:
        """Take a start back that did not happen."""
        if tenant_id in self._buckets:
            tokens, at = self._buckets[tenant_id]
            self._buckets[tenant_id] = (tokens + 1.0, at)

    def set_running(self, running: Mapping[tuple[int, str], int]) -> set[tuple[int, str]]:
        """Replace the counts and return the (tenant, queue) for which they were others."""
        totals: dict[int, int] = {}
        for (tenant_id, _), count in running.items():
            totals[tenant_id] = totals.get(tenant_id, 0) + count
        before, self._running, self._totals = self._running, dict(running), totals
        changed = {lane for lane, count in running.items() if before.get(lane, 0) != count}
        changed.update(lane for lane, count in before.items() if count and lane not in running)
        return changed

    def add_running(self, tenant_id: int, queue: str, count: int) -> None:
        """Change one count between two looks at the database."""
        key = (tenant_id, queue)
        self._running[key] = max(0, self._running.get(key, 0) + count)
        self._totals[tenant_id] = max(0, self._totals.get(tenant_id, 0) + count)

    def running_in(self, tenant_id: int, queue: str) -> int:
        """Return how many tasks a tenant runs in one queue."""
        return self._running.get((tenant_id, queue), 0)

    def running_total(self, tenant_id: int) -> int:
        """Return how many tasks a tenant runs in all queues."""
        return self._totals.get(tenant_id, 0)

    def seconds(self, type_id: int) -> float:
        """Return how long a task of this type is expected to hold a worker."""
        return self._seconds.get(type_id, DEFAULT_SECONDS)

    def recall(self, seconds: Mapping[int, float]) -> None:
        """Begin with lengths, by type, that were learnt before."""
        self._seconds.update(seconds)

    def learn(self, type_id: int, seconds: float) -> None:
        """Take the length of one ended run into the estimate of its type."""
        known = self._seconds.get(type_id)
        self._seconds[type_id] = (
            max(0.001, seconds) if known is None else known + EWMA_SHARE * (max(0.001, seconds) - known)
        )


_UNLIMITED = TenantLimits()
