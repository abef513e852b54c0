"""PostgreSQL away, full or in conflict with itself: 503 and Retry-After, never a 500.

A request waits three seconds at most for a database that says nothing (:mod:`rest.patience`), so the
answer comes within five.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.http import HttpRequest, HttpResponse

from rest.database_errors import is_outage, outage_problem
from rest.middleware import AroundMiddleware
from rest.pages import answer
from rest.patience import Patience, patient

SILENCE_SECONDS = 3.0
"""What a request puts up with, over all that it asks of the database."""


class OutageMiddleware(AroundMiddleware):
    """Bound what a request waits for the database; answer outages that views outside DRF run into.

    Those inside other middleware (a session that cannot be read) end in
    ``handler500`` (``web.error_pages``), because Django turns them into a response before an outer
    middleware sees them.
    """

    def around(self, request: HttpRequest) -> AbstractContextManager[Patience]:
        """Give the request its patience."""
        return patient(SILENCE_SECONDS)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 for an outage; leave everything else alone."""
        if not is_outage(exception):
            return None
        return answer(request, outage_problem(exception))
