"""Two views at one address: JSON pages for who asks once, an event stream for who follows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from live.streams import MEDIA_TYPE
from rest.rendering import choose
from rest.views import AsyncView


def negotiate(
    stream: AsyncView, page: Callable[..., Any]
) -> Callable[..., Coroutine[Any, Any, HttpResponseBase]]:
    """Return a view that answers with ``stream`` to GET where the client asks for one.

    ``page`` is the view (``as_view()``) of the other forms and of everything else about the address.
    """
    offered = getattr(page, "cls", None)
    others: tuple[str, ...] = getattr(offered, "media_types", ("application/json",))

    async def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        accept = request.headers.get("Accept", "*/*")
        named = MEDIA_TYPE in accept.lower()
        if request.method == "GET" and named and choose(accept, (MEDIA_TYPE, *others)) == MEDIA_TYPE:
            return await stream(request, *args, **kwargs)
        response: HttpResponseBase = await sync_to_async(page)(request, *args, **kwargs)
        return response

    # A handler that knows the choice before may call it without the detour (config.handler).
    view.page = page  # type: ignore[attr-defined]
    view.csrf_exempt = True  # type: ignore[attr-defined]  # DRF checks it, for sessions only
    return view
