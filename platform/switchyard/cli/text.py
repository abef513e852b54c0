"""Text from elsewhere, made safe for a terminal.

Names, labels, steps and messages come from other people. Shown as they are, they could move the
cursor, rewrite what was printed, set the window's title or hide what is there (ANSI escapes,
carriage returns, bidirectional overrides). So they are escaped everywhere. Only the output of a
task may use colour, and only colour.
"""

from __future__ import annotations

import re
import unicodedata

# Control, format (bidirectional overrides, zero-width), surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# ECMA-48: control sequences (also by their one-character introducer), strings (OSC, DCS, APC, PM,
# SOS) up to their end or the line's, and every other escape.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*(?:[@-~]|$)"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*(?:[0-~]|$)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
RESET = "\x1b[0m"


def printable(text: str, *, lines: bool = False) -> str:
    """Return text in which nothing hides or commands: such characters appear as `\\x1b`.

    `lines` keeps line breaks and tabs (a message, a description).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char, lines) for char in text)


def log_line(text: str, *, colour: bool) -> str:
    """Return a line of output for a terminal: colour where wanted, no other escape or control.

    A line that was rewritten in place (a progress bar made with carriage returns) shows as the
    terminal would have left it, roughly: its last part.
    """
    if text.isascii() and text.isprintable():
        return text
    cleaned = _ESCAPE.sub(lambda found: _kept(found.group(), colour), text)
    if "\r" in cleaned:
        cleaned = next((part for part in reversed(cleaned.split("\r")) if part), "")
    coloured = colour and "\x1b" in cleaned
    cleaned = "".join(
        piece if _COLOUR.fullmatch(piece) else _CONTROL.sub("", piece)
        for piece in re.split(f"({_COLOUR.pattern})", cleaned)
    )
    return f"{cleaned}{RESET}" if coloured else cleaned


def _kept(escape: str, colour: bool) -> str:
    return escape if colour and _COLOUR.fullmatch(escape) else ""


def _shown(char: str, lines: bool) -> str:
    if lines and char in "\n\t":
        return char
    if unicodedata.category(char) not in _HIDDEN:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
