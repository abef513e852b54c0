"""What the frame itself stores: the answers to requests that carried an ``Idempotency-Key``."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class IdempotencyRecord(models.Model):
    """One key within one scope, and the first answer given to it.

    ``scope`` is opaque here (tenants write ``tenant:7``); ``fingerprint`` is a SHA-256 over method,
    path and body; ``body`` is the answer's JSON text without the secrets that are shown once.
    """

    scope = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.TextField(default="")
    location = models.TextField(default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            # The index on which two requests with one key wait for each other.
            models.UniqueConstraint(fields=["scope", "key"], name="idempotency_scope_key"),
        ]
        indexes = [
            # prune(): the oldest first.
            models.Index(fields=["created_at"], name="idempotency_created"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"
