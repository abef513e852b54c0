"""How a command speaks: JSON, tables on a terminal, plain text in a pipe.

stdout carries what was asked for and nothing else; remarks go to stderr. rich is loaded only for a
terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from switchyard.cli.text import RESET, printable

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"dim": "\x1b[2m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}

STATUS_STYLES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "dropped": "yellow",
    "running": "cyan",
    "healthy": "green",
    "degraded": "yellow",
    "down": "red",
}


def on_terminal(stream: TextIO) -> bool:
    """Return whether a person is at the other end of this stream."""
    return stream.isatty()


def in_colour(stream: TextIO) -> bool:
    """Return whether the stream may be coloured: a capable terminal, and nobody said NO_COLOR."""
    return (
        on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"
    )


def styled(text: str, style: str, stream: TextIO) -> str:
    """Return (already safe) text in a style, where the stream takes one."""
    return f"{STYLES[style]}{text}{RESET}" if in_colour(stream) else text


class Output:
    """Where a command's results go; `json` asks for machine output."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def data(self, value: object) -> None:
        """Print a JSON value on a line; a terminal gets it with nothing but ASCII."""
        text = json.dumps(value, ensure_ascii=on_terminal(sys.stdout), default=str)
        print(text, flush=True)

    def line(self, text: str) -> None:
        """Print one line of the result; the text must be safe already."""
        print(text, flush=True)

    def note(self, text: str, style: str = "dim") -> None:
        """Make a remark on stderr about what was not asked for."""
        shown = printable(text, lines=True)
        print(styled(shown, style, sys.stderr), file=sys.stderr, flush=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
        """Print rows below their columns; `empty` is the sentence when there are none.

        On a terminal the columns share its width, the first one is never cut; in a pipe nothing is.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            self.note(empty)
        elif on_terminal(sys.stdout):
            _rich_table(columns, cells)
        else:
            widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
            for row in (list(columns), *cells):
                padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
                self.line("  ".join(padded).rstrip())

    def record(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print named values below each other; those that are None or empty are left out."""
        shown = [(name, _cell(value)) for name, value in pairs if value not in (None, "", [], {})]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            label = styled(f"{name}:".ljust(width + 1), "dim", sys.stdout)
            indented = value.replace("\n", "\n" + " " * (width + 2))
            self.line(f"{label} {indented}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return printable(str(value), lines=True)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        widest = max(len(row[number]) for row in rows)
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", min_width=widest if number == 0 else None
        )
    for row in rows:
        # Text, not str: what comes from the server is never markup.
        table.add_row(*(Text(text, style=STATUS_STYLES.get(text, "")) for text in row))
    console(sys.stdout).print(table)


def console(stream: TextIO) -> Console:
    """Return rich's console for a terminal, with our rules for colour and width."""
    from rich.console import Console

    return Console(
        file=stream,
        no_color=not in_colour(stream),
        highlight=False,
        markup=False,
        emoji=False,
        width=shutil.get_terminal_size().columns,
    )


def age(seconds: float) -> str:
    """Return a duration as people say it: `4s`, `12m`, `3h`, `5d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def table_of(output: Output, entries: Iterable[Any], columns: dict[str, str], empty: str) -> None:
    """Print objects as they are (`--json`), or a table of some members (column: member)."""
    found = list(entries)
    if output.json:
        output.data(found)
        return
    rows = [[entry.get(member) for member in columns.values()] for entry in found]
    output.table(list(columns), rows, empty)
