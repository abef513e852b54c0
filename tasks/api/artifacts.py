"""``/tasks/{id}/artifacts``: the files that a task's runs have left."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import IO, Any, ClassVar

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.connections import give_connection_back
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from rest.ranges import Part, part_of
from rest.rendering import AsItIs
from rest.text import visible_text
from tasks.content import CHUNK, open_content
from tasks.errors import ContentGone
from tasks.models import TaskFile
from tasks.selectors.files import artifact_of, artifacts_of
from tasks.selectors.representation import file_json
from tasks.selectors.tasks import visible_task
from tenants.access import TenantView

ANY_BYTES = "application/octet-stream"


class ArtifactList(TenantView):
    """What a task's runs have left."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="artifacts_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """List the artifacts of all runs, newest first."""
        task = visible_task(self.actor, self.tenant, task_id)
        return Response(page_of(request, self.parameters, artifacts_of(task), file_json))


class Artifact(TenantView):
    """One artifact."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    content_negotiation_class = AsItIs

    @extend_schema(
        operation_id="artifacts_read",
        responses={(200, ANY_BYTES): OpenApiTypes.BINARY, (206, ANY_BYTES): OpenApiTypes.BINARY},
    )
    def get(
        self, request: Request, tenant: str, task_id: uuid.UUID, artifact_id: uuid.UUID
    ) -> HttpResponseBase:
        """Download the bytes, all or one range; 304 and 416 as RFC 9110 has them."""
        file = artifact_of(visible_task(self.actor, self.tenant, task_id), artifact_id)
        tag = f'"{file.sha256}"'
        if tag in request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers={"ETag": tag})
        asked = request.headers.get("Range")
        if request.headers.get("If-Range", tag) != tag:
            asked = None
        part = part_of(asked, file.size)
        answer = _answer(file, part, head=request.method == "HEAD")
        answer["ETag"] = tag
        return answer


def _answer(file: TaskFile, part: Part | None, *, head: bool) -> HttpResponseBase:
    sent = part or Part(0, file.size)
    answer: HttpResponseBase
    if head:
        answer = HttpResponse(status=206 if part else 200)
    else:
        try:
            stream = open_content(file.storage_key)
            stream.seek(sent.start)
        except FileNotFoundError:
            raise ContentGone from None
        answer = StreamingHttpResponse(_pieces(stream, sent.length), status=206 if part else 200)
        give_connection_back()
    answer["Content-Type"] = file.media_type
    answer["Content-Length"] = str(sent.length)
    answer["Accept-Ranges"] = "bytes"
    # Never shown on our own origin: saved, and taken for nothing but what we say it is.
    answer["Content-Disposition"] = content_disposition_header(True, _file_name(file.name)) or ""
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    if part:
        answer["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{file.size}"
    return answer


async def _pieces(stream: IO[bytes], left: int) -> AsyncIterator[bytes]:
    """Yield ``left`` bytes, each piece read in a thread: the event loop never waits for a disk."""
    try:
        while left > 0:
            piece = await asyncio.to_thread(stream.read, min(CHUNK, left))
            if not piece:
                return
            left -= len(piece)
            yield piece
    finally:
        stream.close()


def _file_name(name: str) -> str:
    """Return the last part of an artifact's name, with nothing that hides, reorders or commands."""
    return visible_text(name.rpartition("/")[2]) or "artifact"
