"""Reading the values of options: params, labels, sources, times. Mistakes are usage errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# The ref is what follows the last @ of the path; an @ of the authority (git@host) is no ref's.
_WITH_REF = re.compile(r"(?P<git>(?:[a-z][a-z0-9+.-]*://[^/]*/|[^/:]+:|[./])[^\s]*)@(?P<ref>[^@\s]+)")


def params_of(pairs: Sequence[str], file: str | None) -> dict[str, Any]:
    """Return the params from a JSON file (`-` is stdin) with the pairs `name=value` laid over it.

    A value that is JSON is taken as such, any other as text; dots in a name nest: `source.ref=main`.
    """
    params = _read_object(file) if file is not None else {}
    for pair in pairs:
        name, value = _pair(pair, "-p")
        _put(params, name, _value(value))
    return params


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the labels from pairs `name=value`."""
    return dict(_pair(pair, "--label") for pair in pairs)


def inputs_of(pairs: Sequence[str]) -> dict[str, Path]:
    """Return the files to upload from pairs `NAME=PATH`."""
    found: dict[str, Path] = {}
    for pair in pairs:
        name, path = _pair(pair, "--input")
        try:
            with Path(path).open("rb"):
                found[name] = Path(path)
        except OSError as error:
            raise typer.BadParameter(f"--input: {path} cannot be read: {error.strerror}.") from None
    return found


def source_of(text: str) -> dict[str, str]:
    """Return `{"git", "ref"}` from `URL[@REF]`."""
    found = _WITH_REF.fullmatch(text)
    return {"git": found["git"], "ref": found["ref"]} if found else {"git": text}


def time_of(text: str, option: str = "--at", now: datetime | None = None) -> datetime:
    """Return a time from RFC 3339 (without an offset: this machine's zone) or from now: `+90s`."""
    relative = re.fullmatch(r"\+(\d{1,9})([smhd])", text)
    if relative:
        wait = timedelta(seconds=int(relative[1]) * _SECONDS[relative[2]])
        return (now or datetime.now(UTC)) + wait
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a time such as 2027-01-31T18:00+01:00, or +90s, +10m, +2h, +1d; "
            f"not {text!r}."
        ) from None


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{option} takes name=value, not {text!r}.")
    return name, value


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _put(params: dict[str, Any], name: str, value: Any) -> None:
    *way, last = name.split(".")
    if not all((*way, last)):
        raise typer.BadParameter(f"-p: {name!r} has an empty part between its dots.")
    here = params
    for part in way:
        inner = here.setdefault(part, {})
        if not isinstance(inner, dict):
            raise typer.BadParameter(f"-p: {name!r} goes into {part!r}, which is no object.")
        here = inner
    here[last] = value


def _read_object(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--params: {file} cannot be read: {error}.") from None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = "stdin" if file == "-" else file
        raise typer.BadParameter(f"--params: {where} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("--params takes a JSON object.")
    return value
