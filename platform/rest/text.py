"""What names, labels and slugs may hold: text that looks like what it is, everywhere it is shown.

Refused are characters that hide, reorder or command: control characters (ANSI escapes, NUL), format
characters (bidirectional overrides, zero-width ones), line and paragraph separators, surrogates,
private and unassigned code points. Text is stored in NFC, so that equal looks are equal bytes.
"""

from __future__ import annotations

import re
import unicodedata

MAX_SLUG = 50
_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
"""A UUID in its usual form: :class:`uuid.UUID` takes others too."""
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

# Words that an address, a configuration file or a reader would take for something else.
# fmt: off
RESERVED = frozenset(
    {
        "about", "account", "accounts", "admin", "administrator", "all", "anonymous", "api",
        "app", "assets", "audit", "auth", "batch", "beat", "critical", "dispatcher", "docs",
        "everybody", "everyone", "false", "health", "help", "http", "https", "internal",
        "localhost", "login", "logout", "mail", "me", "metrics", "new", "nil", "no",
        "nobody", "none", "normal", "null", "oauth", "operator", "operators", "platform",
        "public", "root", "schema", "self", "settings", "signup", "static", "status",
        "support", "switchyard", "system", "tenant", "tenants", "true", "undefined", "user",
        "users", "webhook", "webhooks", "worker", "workers", "ws", "www", "yes",
    }
)
# fmt: on


class TextRefused(ValueError):
    """The text may not be stored; ``code`` is stable, the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def clean_text(value: str, *, max_length: int, lines: bool = False) -> str:
    """Return the text in NFC, without outer spaces.

    ``lines`` allows line breaks and tabs (a description, a reason).

    Raises:
        TextRefused: it is blank, too long, or has a character that hides or commands.
    """
    for char in value:
        if unicodedata.category(char) in _HIDDEN and not (lines and char in "\n\t"):
            raise TextRefused(
                "character_refused",
                f"The character U+{ord(char):04X} is not allowed here.",
            )
    text = unicodedata.normalize("NFC", value).strip()
    if not text:
        raise TextRefused("blank", "This must not be blank.")
    if len(text) > max_length:
        raise TextRefused("max_length", f"At most {max_length} characters are allowed.")
    return text


def visible_text(value: str) -> str:
    """Return the text with an underscore for each character that hides, reorders or commands."""
    return "".join("_" if unicodedata.category(char) in _HIDDEN else char for char in value)


def clean_slug(value: str) -> str:
    """Return a slug: small ASCII letters, digits and single hyphens inside, at most 50.

    Capital letters are made small, so ``Acme`` is taken where ``acme`` is.

    Raises:
        TextRefused: it has another form, or is a reserved word.
    """
    slug = value.lower() if value.isascii() else value
    if len(slug) > MAX_SLUG or not _SLUG.fullmatch(slug):
        raise TextRefused(
            "slug",
            f"Use small letters, digits and single hyphens inside, at most {MAX_SLUG} characters.",
        )
    if slug in RESERVED:
        raise TextRefused("reserved", f"{slug!r} is a reserved word; choose another.")
    return slug
