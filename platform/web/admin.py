"""What the operators' admin does not show: the secrets of second factors."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.contrib import admin

admin.site.unregister(Authenticator)
