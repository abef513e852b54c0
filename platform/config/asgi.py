"""The ASGI application: HTTP to Django, WebSockets to :mod:`live`."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Django first: it loads the apps, which what follows needs.
_http = get_asgi_application()

from django.conf import settings  # noqa: E402

from live.routing import application as _sockets  # noqa: E402
from rest.body_limit import BodyLimit  # noqa: E402
from rest.streamed_body import StreamedBodies  # noqa: E402

# One byte more than the parser's own cap, so that what it can refuse in detail still reaches it.
_limited = BodyLimit(_http, settings.SWITCHYARD.max_body_bytes + 1)
application = ProtocolTypeRouter({"http": StreamedBodies(_http, others=_limited), "websocket": _sockets})
