"""The default permission: nobody. A view without a permission of its own is a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # DRF's views read the setting that names these classes, so not at run time
    from rest_framework.views import APIView


class DenyAll(BasePermission):
    """Refuse everybody, so that a view that names no permission opens nothing."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return False
