"""Static files without a thread for everybody else.

WhiteNoise's middleware is synchronous, so under ASGI each request below it occupies a thread for as
long as it lasts: with a long poll, five minutes. Here only the requests for files do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise for a synchronous and for an asynchronous chain of middleware."""

    sync_capable = True
    async_capable = True
    files: dict[str, StaticFile]
    _found: ClassVar[dict[str, StaticFile]] = {}

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        super().__init__(get_response)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def add_files_from_finders(self) -> None:
        """Look for the files once per process: each client of a test makes middleware of its own.

        Reading the hundreds of files' properties took a third of all processor time of the API's tests.
        """
        if not self._found:
            super().add_files_from_finders()
            self._found.update(self.files)
        self.files = self._found

    def __call__(self, request: HttpRequest) -> Answer:
        found = self.files.get(request.path_info)
        if found is None:
            answer: Answer = self.get_response(request)
            return answer
        if self.is_async:
            return sync_to_async(self.serve)(found, request)
        response: HttpResponseBase = self.serve(found, request)
        return response
