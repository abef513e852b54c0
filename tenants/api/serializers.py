"""What clients may send about tenants, tokens, members and limits."""

from __future__ import annotations

from rest_framework import serializers

from rest.fields import (
    ChoiceField,
    NameField,
    SlugField,
    StrictBoolean,
    StrictFloat,
    StrictInteger,
    StrictSerializer,
    StrictString,
)
from tenants.api.windows import WindowsBody
from tenants.scopes import ROLES
from tenants.services.tokens import LONGEST_LIFETIME

MOST = 1_000_000


class TokenBody(StrictSerializer):
    """``POST /tokens``."""

    name = NameField(max_length=100)
    scopes = serializers.ListField(
        child=StrictString(min_length=1, max_length=50), min_length=1, max_length=50
    )
    expires_in = StrictFloat(
        above=0, maximum=LONGEST_LIFETIME.total_seconds(), required=False, allow_null=True
    )


class RoleBody(StrictSerializer):
    """``PUT /members/{user}``."""

    role = ChoiceField(choices=ROLES)


class MemberBody(RoleBody):
    """``POST /members``."""

    user = NameField(max_length=150)


class QueueLimitsBody(StrictSerializer):
    """The limits of one queue; null is no limit."""

    running = StrictInteger(minimum=0, maximum=MOST, required=False, allow_null=True)
    min_running = StrictInteger(minimum=0, maximum=MOST, required=False, allow_null=True)
    queued = StrictInteger(minimum=0, maximum=MOST, required=False, allow_null=True)


class BatchLimitsBody(QueueLimitsBody):
    """The limits of the batch queue, and the off-peak windows outside which it starts nothing."""

    windows = WindowsBody(required=False, allow_null=True)


class QueuesBody(StrictSerializer):
    """The limits of the queues, by name."""

    critical = QueueLimitsBody(required=False)
    normal = QueueLimitsBody(required=False)
    batch = BatchLimitsBody(required=False)


class LimitsBody(StrictSerializer):
    """``PUT /limits``: what is left out stays."""

    running = StrictInteger(minimum=0, maximum=MOST, required=False, allow_null=True)
    queued = StrictInteger(minimum=0, maximum=MOST, required=False, allow_null=True)
    submit_per_second = StrictFloat(above=0, maximum=MOST, required=False, allow_null=True)
    dispatch_per_second = StrictFloat(above=0, maximum=MOST, required=False, allow_null=True)
    running_per_key = StrictInteger(minimum=0, maximum=100, required=False, allow_null=True)
    weight = StrictFloat(minimum=0.01, maximum=1000, required=False)
    queues = QueuesBody(required=False)


class TenantBody(StrictSerializer):
    """``POST /operator/tenants``."""

    slug = SlugField()
    name = NameField(max_length=200, required=False)
    network_permitted = StrictBoolean(required=False)


class TenantChangeBody(StrictSerializer):
    """``PATCH /operator/tenants/{slug}``."""

    name = NameField(max_length=200, required=False)
    paused = StrictBoolean(required=False)
    network_permitted = StrictBoolean(required=False)
