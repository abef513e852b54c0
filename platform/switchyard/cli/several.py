"""The same request for several things: one that is refused keeps none of the others from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from switchyard.cli.failures import explain
from switchyard.cli.output import Output
from switchyard.client.errors import ApiError, SwitchyardError, Unreachable

T = TypeVar("T")


def answers(
    output: Output, names: Mapping[str, str], ask: Callable[[str], T]
) -> Iterator[tuple[str, T | SwitchyardError]]:
    """Ask for each id, and yield it with its answer, or with its error, which stderr was told.

    ``names`` are what people call the things, by id.
    Once the server cannot be reached nothing more is asked for: each would be waited for in vain.
    """
    away: Unreachable | None = None
    for key, name in names.items():
        answer: T | SwitchyardError
        if away is not None:
            output.note(f"{name}: not asked for.")
            answer = away
        else:
            try:
                answer = ask(key)
            except SwitchyardError as error:
                output.note(f"{name}: {explain(error)[0]}")
                answer = error
                away = error if isinstance(error, Unreachable) else None
        yield key, answer


def as_data(key: str, error: SwitchyardError) -> dict[str, Any]:
    """Return what machine output says of a thing for which nothing was done."""
    told: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, ApiError):
        told |= {"status": error.status, "code": error.code, "instance": error.request_id}
    return {"id": key, "changed": False, "error": told}
