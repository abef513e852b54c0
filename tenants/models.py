"""Tenants, their members, tokens and limits."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from tenants.limits import DEFAULT_WEIGHT, QUEUES, WHOLE, WINDOWED
from tenants.scopes import OWNER, ROLES


class Tenant(models.Model):
    """A team with its own members, tokens, limits and data.

    ``paused``: nothing of it is dispatched, reading and submitting go on. ``network_permitted``:
    its tasks may ask for the network. ``is_first``: made by ``up``; there an operator needs no
    reason.
    """

    uid = models.UUIDField(default=uuid7, unique=True, editable=False)
    slug = models.CharField(max_length=50, unique=True)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paused = models.BooleanField(default=False)
    network_permitted = models.BooleanField(default=False)
    is_first = models.BooleanField(default=False, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(slug__regex=r"^[a-z0-9](-?[a-z0-9])*$"), name="tenant_slug_form"
            ),
            models.UniqueConstraint(
                fields=["is_first"], condition=models.Q(is_first=True), name="tenant_one_first"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


def keep_an_owner(collector: Any, field: Any, memberships: Any, using: str) -> None:
    """Delete memberships together with their users, but never a tenant's last owner (``on_delete``).

    Whoever deletes users does so inside a transaction: their tenants are then locked until its end, so
    of two owners who are deleted at the same moment the second one is seen to be the last.

    Raises:
        ProtectedError: which Django's admin shows before it deletes anything.
    """
    if connections[using].in_atomic_block:  # a page that only asks whether to delete is in none
        tenants = [membership.tenant_id for membership in memberships]
        list(Tenant.objects.using(using).select_for_update().filter(pk__in=tenants).order_by("pk"))
        memberships = memberships.all()  # as they are now
    leaving = list(memberships)
    staying = Membership.objects.using(using).filter(role=OWNER)
    staying = staying.exclude(pk__in=[membership.pk for membership in leaving])
    led = set(staying.values_list("tenant_id", flat=True))
    last = {each for each in leaving if each.role == OWNER and each.tenant_id not in led}
    if last:
        slugs = ", ".join(sorted(each.tenant.slug for each in last))
        message = f"The user is the last owner of {slugs}; make somebody else an owner first."
        raise models.ProtectedError(message, last)
    models.CASCADE(collector, field, memberships, using)


class Membership(models.Model):
    """A user's role in a tenant. A tenant that has members keeps at least one owner (services)."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, keep_an_owner, related_name="memberships")
    role = models.CharField(max_length=10, choices=[(role, role) for role in ROLES])
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=ROLES), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.role} of {self.tenant}"


class ApiToken(models.Model):
    """A credential for programs, of one tenant or (``operator``) of the platform.

    Only the SHA-256 of its secret part is stored. ``last_used_at`` moves at most once a minute.
    """

    uid = models.UUIDField(default=uuid7, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, related_name="tokens")
    operator = models.BooleanField(default=False)
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=8, unique=True)
    hash = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=50), default=list)
    created_by = models.CharField(max_length=300)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(operator=True, tenant=None)
                | models.Q(operator=False, tenant__isnull=False),
                name="token_of_tenant_or_operator",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (sy_{self.prefix}_…)"


class Limit(models.Model):
    """How much a tenant may use, in all (``queue`` empty) or of one queue; null is no limit.

    ``running``, ``queued``: tasks at once; ``min_running``: guaranteed before others get more;
    ``weight``: its share among tenants; ``submit_per_second``: accepted tasks a second;
    ``dispatch_per_second``: started tasks a second; ``running_per_key``: unended tasks that may have
    one key at once (null: 1); ``windows``: outside them the batch queue starts nothing
    (:mod:`tenants.windows`). ``version`` grows with each change, so that the dispatcher sees one by a
    sum.
    """

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="limits")
    queue = models.CharField(
        max_length=10, default=WHOLE, blank=True, choices=[(name, name) for name in QUEUES]
    )
    running = models.PositiveIntegerField(null=True, blank=True)
    queued = models.PositiveIntegerField(null=True, blank=True)
    min_running = models.PositiveIntegerField(null=True, blank=True)
    weight = models.FloatField(default=DEFAULT_WEIGHT)
    submit_per_second = models.FloatField(null=True, blank=True)
    dispatch_per_second = models.FloatField(null=True, blank=True)
    running_per_key = models.PositiveSmallIntegerField(null=True, blank=True)
    windows = models.JSONField(null=True, blank=True)
    version = models.PositiveBigIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "queue"], name="limit_once"),
            models.CheckConstraint(condition=models.Q(queue__in=(WHOLE, *QUEUES)), name="limit_queue"),
            models.CheckConstraint(condition=models.Q(weight__gt=0), name="limit_weight"),
            models.CheckConstraint(
                condition=models.Q(min_running=None)
                | models.Q(running=None)
                | models.Q(min_running__lte=models.F("running")),
                name="limit_minimum_below_maximum",
            ),
            models.CheckConstraint(
                condition=models.Q(windows__isnull=True) | models.Q(queue=WINDOWED),
                name="limit_windows_of_batch",
            ),
        ]

    def __str__(self) -> str:
        return f"limits of {self.tenant} {self.queue or 'in all'}"
