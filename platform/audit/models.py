"""One row per deed; the database itself refuses to change or remove any (migration 0002)."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class AuditEntry(models.Model):
    """One deed.

    ``actor`` is written as in a task's ``submitted_by`` (``user:alice``, ``token:ci``,
    ``operator:root``); ``object`` names the thing (``token:<uuid>``); ``tenant_id`` is a plain
    number, since this package is below tenants and an entry outlives whatever it tells of.
    """

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=300)
    action = models.CharField(max_length=100)
    object = models.CharField(max_length=300, default="")
    tenant_id = models.BigIntegerField(null=True)
    request_id = models.CharField(max_length=128, default="")
    reason = models.TextField(default="")
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            # A tenant's trail, newest first.
            models.Index(fields=["tenant_id", "-id"], name="audit_tenant_id"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object}"
