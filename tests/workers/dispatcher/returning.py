"""Bringing parked tasks back without a dispatcher."""

from __future__ import annotations

from collections.abc import Mapping

from workers.dispatcher.parked import Line, Returning


def unpark(leader: int, queue: str, types: Mapping[int, int]) -> set[int]:
    """Bring back what waits in a queue for a worker: of these types, up to the version given of each.

    Returns the tenants whose lanes have grown.
    """

    def may_return(line: Line) -> bool:
        return line.queue == queue and types.get(line.type_id, 0) >= line.type_version

    returning = Returning(may_return)
    returning.look("no_worker")
    grown: set[int] = set()
    while returning.pending:
        grown |= {tenant_id for _, tenant_id in returning.step(leader)}
    return grown
