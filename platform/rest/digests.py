"""``Content-Digest`` (RFC 9530): the client's own checksum of the bytes that it sends."""

from __future__ import annotations

import base64
import binascii
import re

from rest.errors import ValidationFailed

HEADER = "Content-Digest"
# A dictionary of byte sequences (RFC 8941): `sha-256=:BASE64:, sha-512=:BASE64:`.
_MEMBER = re.compile(r"\s*([a-z][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*", re.ASCII)


def sha256_of(header: str | None) -> str | None:
    """Return the SHA-256 that the header names, in hexadecimal digits; None where it names none.

    Raises:
        ValidationFailed: the header cannot be read.
    """
    if header is None:
        return None
    found: dict[str, bytes] = {}
    for part in header.split(","):
        match = _MEMBER.fullmatch(part)
        try:
            if match is None:
                raise binascii.Error
            found[match[1]] = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            raise _unreadable() from None
    digest = found.get("sha-256")
    if digest is not None and len(digest) != 32:
        raise _unreadable()
    return None if digest is None else digest.hex()


def _unreadable() -> ValidationFailed:
    return ValidationFailed.at(f"header:{HEADER}", "invalid", "Write it as sha-256=:BASE64: (RFC 9530).")
