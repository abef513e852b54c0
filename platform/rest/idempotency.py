"""``Idempotency-Key``: the same request sent twice creates once.

The record is written in the transaction that creates the object, so neither can exist without the
other, whatever dies in between. In steps:

1. Insert the key. If another transaction has inserted it and not ended, PostgreSQL makes us wait.
2. Ours: create, store the answer beside the key, commit. A failed create stores nothing, so the
   client may repair its request and use the key again.
3. Somebody's: the same fingerprint is answered with the first answer and ``Idempotent-Replayed``;
   another one is 409.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from rest_framework.request import Request
from rest_framework.response import Response

from rest.errors import Conflict, ValidationFailed
from rest.models import IdempotencyRecord
from rest.rendering import JSONRenderer
from rest.ties import again_on_ties

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
KEPT = timedelta(hours=24)
_VALID = re.compile(r"[\x20-\x7e]{1,255}")

# A key past its time counts as absent even before prune() has removed it.
_CLAIM = """
INSERT INTO rest_idempotencyrecord AS r (scope, key, fingerprint, status, body, location)
VALUES (%s, %s, %s, 0, '', '')
ON CONFLICT (scope, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, status = 0, body = '', location = '',
       created_at = statement_timestamp()
 WHERE r.created_at < statement_timestamp() - make_interval(secs => %s)
RETURNING id
"""


class IdempotencyConflict(Conflict):
    """The key was used for another request."""

    code = "idempotency_conflict"
    title = "Idempotency key used before"
    default_detail = "This Idempotency-Key was used for another request; take a new key."


@dataclass(frozen=True)
class Created:
    """What a create made: the answer's body, its address, its status and further headers."""

    body: Mapping[str, Any]
    location: str = ""
    status: int = 201
    headers: Mapping[str, str] = field(default_factory=dict)


@again_on_ties
def create_once(
    request: Request,
    *,
    scope: str,
    create: Callable[[], Created],
    secret_fields: Collection[str] = (),
    whole: bool = False,
) -> Response:
    """Run ``create`` in a transaction, at most once per ``Idempotency-Key`` of the request.

    ``whole`` says that ``create`` makes one transaction of its own, which is enough without a key.

    ``scope`` says whose keys these are (``actor.idempotency_scope``); ``secret_fields`` are members
    of the body that are shown once and never stored. Read and validate ``request.data`` before.

    Raises:
        IdempotencyConflict: the key came with another request before.
        ValidationFailed: the key is not 1 to 255 printable ASCII characters.
        Problem: whatever ``create`` raises; then nothing is stored.
    """
    key = read_key(request)
    if key is None and whole:
        return _answer(create())
    with transaction.atomic():
        if key is None:
            return _answer(create())
        fingerprint = fingerprint_of(request)
        claimed = _claim(scope, key, fingerprint)
        if claimed is None:
            return _replay(scope, key, fingerprint)
        created = create()
        public = {name: value for name, value in created.body.items() if name not in secret_fields}
        IdempotencyRecord.objects.filter(pk=claimed).update(
            status=created.status,
            body=JSONRenderer().render(public).decode(),
            location=created.location,
        )
        return _answer(created)


def read_key(request: Request) -> str | None:
    """Return the request's key, if it has one.

    Raises:
        ValidationFailed: it is not 1 to 255 printable ASCII characters.
    """
    key = request.headers.get(HEADER)
    if key is not None and not _VALID.fullmatch(key):
        raise ValidationFailed.at(
            f"header:{HEADER}", "invalid", "Use 1 to 255 printable ASCII characters."
        )
    return key


def fingerprint_of(request: Request) -> str:
    """Return a SHA-256 over method, path and the body in canonical form."""
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    text = f"{request.method}\n{request.path}\n{body}"
    return hashlib.sha256(text.encode()).hexdigest()


def prune(now: datetime) -> int:
    """Delete the records that are older than 24 hours at ``now``; return how many."""
    deleted, _ = IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()
    return deleted


def _claim(scope: str, key: str, fingerprint: str) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [scope, key, fingerprint, KEPT.total_seconds()])
        row = cursor.fetchone()
    return int(row[0]) if row else None


def _replay(scope: str, key: str, fingerprint: str) -> Response:
    # A statement of its own: only it can see what the transaction that we waited for has committed.
    record = IdempotencyRecord.objects.get(scope=scope, key=key)
    if record.fingerprint != fingerprint:
        raise IdempotencyConflict()
    headers = {REPLAYED: "true"}
    if record.location:
        headers["Location"] = record.location
    return Response(json.loads(record.body), status=200, headers=headers)


def _answer(created: Created) -> Response:
    headers = dict(created.headers)
    if created.location:
        headers["Location"] = created.location
    return Response(created.body, status=created.status, headers=headers)
