"""The ASGI application: HTTP to Django, WebSockets to :mod:`live`."""

from __future__ import annotations

import os

import django
from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Django first: it loads the apps, which what follows needs.
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402

from config.handler import Handler, StockHandler  # noqa: E402
from config.proxies import behind_proxies  # noqa: E402
from live.routing import application as _sockets  # noqa: E402
from rest.body_limit import BodyLimit  # noqa: E402
from rest.streamed_body import StreamedBodies  # noqa: E402

# An upload holds its thread for as long as its client likes, so it gets one of its own from Django.
_uploads = StockHandler()
_limited = BodyLimit(Handler(), settings.SWITCHYARD.max_body_bytes)
application = behind_proxies(
    ProtocolTypeRouter({"http": StreamedBodies(_uploads, others=_limited), "websocket": _sockets}),
    settings.SWITCHYARD.trusted_proxies,
)
