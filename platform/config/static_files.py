"""Static files without a thread for everybody else.

WhiteNoise's middleware is synchronous, so under ASGI each request below it would occupy a thread for
as long as it lasts: a long poll, five minutes. Here only the requests for files do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise for a synchronous and for an asynchronous chain of middleware."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if not request.path_info.startswith(self.static_prefix):
            return self.get_response(request)
        if iscoroutinefunction(self.get_response):
            return self._in_a_thread(request)
        return super().__call__(request)

    async def _in_a_thread(self, request: HttpRequest) -> HttpResponseBase:
        found = self.files.get(request.path_info)
        if found is None:
            return await self.get_response(request)
        return await sync_to_async(self.serve)(found, request)
