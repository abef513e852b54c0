"""PostgreSQL away, full or in conflict with itself: 503 and Retry-After, never a 500.

Connecting gives up after 3 s and the pool after 4 s (``config.databases``), so the answer comes
within five seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from rest.database_errors import is_outage, outage_problem
from rest.pages import answer


class OutageMiddleware:
    """Answer outages that views outside DRF run into.

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
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 for an outage; leave everything else alone."""
        if not is_outage(exception):
            return None
        return answer(request, outage_problem(exception))
