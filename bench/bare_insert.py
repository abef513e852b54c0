"""The peer of ``bench.submit``: the least that Django REST framework needs to insert one row.

``python -m bench.bare_insert DESCRIPTOR`` serves it as ``ops.up.serve`` serves ours. No authentication,
no middleware, no limits, no events; a serializer, one INSERT, pooled connections, the row as JSON.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from psycopg.conninfo import conninfo_to_dict

_address = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _address["dbname"],
            "USER": _address["user"],
            "PASSWORD": _address["password"],
            "HOST": _address["host"],
            "PORT": _address["port"],
            "OPTIONS": {"pool": {"min_size": 2, "max_size": 24}},
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
application = get_asgi_application()

from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import generics, serializers  # noqa: E402


class Item(models.Model):
    """One row, with about what a client sends for a task."""

    type = models.CharField(max_length=100)
    params = models.JSONField(default=dict)
    labels = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "bench"
        db_table = "bench_item"

    def __str__(self) -> str:
        return self.type


class ItemSerializer(serializers.ModelSerializer[Item]):
    """All of it."""

    class Meta:
        model = Item
        fields = ("id", "type", "params", "labels", "created_at")


class Items(generics.CreateAPIView[Item]):
    """``POST /items``."""

    queryset: Any = Item.objects.all()
    serializer_class = ItemSerializer


urlpatterns = [path("items", Items.as_view())]


if __name__ == "__main__":
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
