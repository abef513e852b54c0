"""Operators' addresses that belong to no package below; under ``/api/v1/operator/``."""

from __future__ import annotations

from django.urls import path

from api.operator import OperatorStatus

urlpatterns = [path("status", OperatorStatus.as_view(), name="operator-status")]
