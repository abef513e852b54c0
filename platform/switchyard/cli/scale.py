"""`switchyard scale`: how many slots the pools have, and may have."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from switchyard.bounds import Bounds, WrongBounds, read_pools
from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of
from switchyard.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

app = application("How many slots the pools have, and may have.")

EVERY = 0.5
COLUMNS = {
    "POOL": "name",
    "MIN": "min",
    "MAX": "max",
    "TARGET": "target",
    "SLOTS": "slots",
    "BUSY": "busy",
    "WAITING": "waiting",
    "WHY": "why",
}


@command(app, "scale", operator=True)
def scale(
    session: Session,
    pools: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POOL=MIN..MAX…]", help="Such as critical=2..8 normal=4 batch=0..4, per machine."
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; the machines follow.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", min=0, help="Wait at most S seconds (exit 8)."),
    ] = None,
) -> int:
    """Show the pools, or set the slots of each one named, all or none.

    Waits until they have them: tasks that run in slots that are too many end first.
    """
    try:
        wanted = read_pools(pools or ())
    except WrongBounds as error:
        raise typer.BadParameter(f"{error}. Write pool=slots or pool=min..max.") from None
    operator = session.client.operator
    if not wanted:
        return _show(session, operator.pools())
    shown = operator.scale({queue: (each.least, each.most) for queue, each in wanted.items()})
    if not session.output.json:
        for queue, each in wanted.items():
            session.output.line(f"{queue} {_in_words(each)}")
    if detach:
        return _show(session, shown) if session.output.json else exit_codes.OK
    return _wait(session, wanted, timeout)


def _wait(session: Session, wanted: Mapping[str, Bounds], timeout: float | None) -> int:
    """Tell of each change until all pools have the slots that they should; Ctrl-C leaves them to it."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told: dict[str, str] = {}
    try:
        while True:
            pools = list(session.client.operator.pools())
            left = {}
            for pool in pools:
                name = str(pool.get("name"))
                if name in wanted and (missing := _missing(pool, wanted[name])):
                    left[name] = missing
            for name, missing in left.items():
                if told.get(name) != missing and not session.output.json:
                    session.output.note(printable(f"{name}: {missing}"))
            told = left
            if not left or (deadline is not None and time.monotonic() >= deadline):
                break
            time.sleep(EVERY)
    except KeyboardInterrupt:
        session.output.note("It goes on without us. To see it: switchyard scale")
        return exit_codes.RUNNING
    _show(session, pools)
    return exit_codes.RUNNING if left else exit_codes.OK


def _missing(pool: Mapping[str, Any], wanted: Bounds) -> str:
    """Return what a pool still lacks of what was asked for; empty when it has it."""
    machines: Sequence[Mapping[str, Any]] = pool.get("machines") or []
    if not machines:
        return "no machine serves it" if wanted.most else ""
    if any((each.get("min"), each.get("max")) != (wanted.least, wanted.most) for each in machines):
        return "its machines have not heard of it yet"
    slots, target = pool.get("slots") or 0, pool.get("target") or 0
    draining = (pool.get("workers") or {}).get("draining") or 0
    if slots == target and not draining:
        return ""
    drain = f", {draining} worker{'s' if draining != 1 else ''} finishing what they run"
    return f"{slots} of {target} slots{drain if draining else ''} ({pool.get('why')})"


def _in_words(bounds: Bounds) -> str:
    if bounds.most == 0:
        return "becomes 0 slots: its tasks wait until it is scaled up"
    if bounds.least == bounds.most:
        return f"becomes {bounds.least} slots"
    return f"becomes {bounds.least} to {bounds.most} slots, as they are needed"


def _show(session: Session, pools: Any) -> int:
    if session.output.json:
        session.output.data({"results": list(pools)})
    else:
        table_of(session.output, pools, COLUMNS, "No pools.")
    return exit_codes.OK
