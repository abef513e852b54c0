"""The form of an API token: ``sy_<prefix>_<secret><checksum>``.

The prefix finds the row, the secret proves it; only the secret's SHA-256 is stored, which is enough
for 190 random bits. The checksum (CRC-32, as in GitHub's tokens) lets scanners tell a leaked token
from a look-alike, and lets us refuse a typing error without asking the database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import NamedTuple

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIX_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 8, 32, 6
_FORM = re.compile(r"sy_([0-9A-Za-z]{8})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")

# Compared against when there is no such token, so that both cases do the same work.
NOBODY = hashlib.sha256(b"").hexdigest()


class TokenParts(NamedTuple):
    """The two halves of a well-formed token."""

    prefix: str
    secret: str


def generate() -> TokenParts:
    """Make a new token."""
    return TokenParts(_random(PREFIX_LENGTH), _random(SECRET_LENGTH))


def write(parts: TokenParts) -> str:
    """Return the token as the client gets it, once."""
    head = f"sy_{parts.prefix}_{parts.secret}"
    return head + _checksum(head)


def read(raw: str) -> TokenParts | None:
    """Take a token apart; ``None`` when its form or checksum is wrong."""
    match = _FORM.fullmatch(raw)
    if match is None or _checksum(raw[:-CHECKSUM_LENGTH]) != match[3]:
        return None
    return TokenParts(match[1], match[2])


def hash_of(secret: str) -> str:
    """Return what is stored of a secret: its SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(stored: str, secret: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(stored, hash_of(secret))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(head: str) -> str:
    number = zlib.crc32(head.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        digits = ALPHABET[rest] + digits
    return digits
