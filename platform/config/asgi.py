"""The ASGI application: HTTP to Django, WebSockets to :mod:`live`."""

from __future__ import annotations

import logging
import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Django first: it loads the apps, which what follows needs.
_http = get_asgi_application()

from live.routing import application as _sockets  # noqa: E402

# uvicorn tells the address of each socket with its query, where a careless client put a token.
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

application = ProtocolTypeRouter({"http": _http, "websocket": _sockets})
