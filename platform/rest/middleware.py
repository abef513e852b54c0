"""What middleware of ours shares: something that holds while a request is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class AroundMiddleware:
    """Answer each request within :meth:`around`; in the event loop under ASGI, without a thread."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if self.is_async:
            return self._later(request)
        with self.around(request):
            response = cast(HttpResponseBase, self.get_response(request))
        return self.answered(request, response)

    def around(self, request: HttpRequest) -> AbstractContextManager[object]:
        """Return what holds meanwhile."""
        raise NotImplementedError

    def answered(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response that goes out, once it is made."""
        return response

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        with self.around(request):
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        return self.answered(request, response)
