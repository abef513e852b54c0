"""PostgreSQL away, full or in conflict with itself: 503 and Retry-After, never a 500.

A request waits three seconds at most for a database that says nothing (:mod:`rest.patience`), so the
answer comes within five.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from rest.database_errors import is_outage, outage_problem
from rest.pages import answer
from rest.patience import patient

SILENCE_SECONDS = 3.0
"""What a request puts up with, over all that it asks of the database."""


class OutageMiddleware:
    """Bound what a request waits for the database; answer outages that views outside DRF run into.

    Those inside other middleware (a session that cannot be read) end in
    ``handler500`` (``web.error_pages``), because Django turns them into a response before an outer
    middleware sees them.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._later(request)
        with patient(SILENCE_SECONDS):
            return self.get_response(request)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        with patient(SILENCE_SECONDS):
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 for an outage; leave everything else alone."""
        if not is_outage(exception):
            return None
        return answer(request, outage_problem(exception))
