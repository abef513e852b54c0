"""``/metrics``: what Prometheus reads, asked of PostgreSQL at each scrape.

Web processes come and go and each sees a part, so nothing is counted in them: every number is a state
that the tables hold, the same whichever process answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from rest.parsing import Request
from rest.rendering import AsItIs
from tasks.selectors.pools import PoolState, pool_states
from tenants.access import OperatorView

POOLS: tuple[tuple[str, str, Callable[[PoolState], float]], ...] = (
    (
        "waiting",
        "Tasks that could start if there were a free slot, counted up to 10000.",
        lambda pool: pool.waiting,
    ),
    (
        "oldest_wait_seconds",
        "For how long the oldest of them has waited.",
        lambda pool: pool.oldest_wait,
    ),
    (
        "dispatched",
        "Tasks that were handed to the pool and have not started yet.",
        lambda pool: pool.dispatched,
    ),
    ("running", "Tasks that run.", lambda pool: pool.running),
    ("slots", "Slots of the workers that take tasks.", lambda pool: pool.slots),
    (
        "target_slots",
        "Slots that the pool should have, on all machines together.",
        lambda pool: pool.target,
    ),
    ("workers", "Worker processes that take tasks.", lambda pool: pool.alive),
)
"""Gauges ``switchyard_pool_…``, each with the label ``pool``."""


class Metrics(OperatorView):
    """The platform's state in numbers, for an operator's token."""

    content_negotiation_class = AsItIs

    @extend_schema(operation_id="metrics_read", responses={(200, "text/plain"): str})
    def get(self, request: Request) -> HttpResponse:
        """Tell in Prometheus' text format what waits and runs in each pool, and its slots."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Pools(pool_states()))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Pools:
    """A collector of the pools' gauges."""

    def __init__(self, pools: Iterable[PoolState]) -> None:
        self._pools = list(pools)

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge with all pools."""
        for name, told, value in POOLS:
            gauge = GaugeMetricFamily(f"switchyard_pool_{name}", told, labels=["pool"])
            for pool in self._pools:
                gauge.add_metric([pool.name], value(pool))
            yield gauge
