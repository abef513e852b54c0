"""``/tasks/{id}/inputs/{name}`` and ``/tasks/{id}/submit``: large inputs of an allocated task."""

from __future__ import annotations

import re
import uuid
from typing import Any, ClassVar

import structlog
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from rest import digests
from rest.connections import give_connection_back
from rest.errors import BadRequest, Unavailable
from rest.idempotency import Created, create_once
from rest.parsing import Request, declared_length, refuse_compression
from rest.streamed_body import reader_of
from tasks.api.permissions import require_change_of
from tasks.api.serializers import SubmitInputsBody
from tasks.content import TooMuch
from tasks.errors import DigestMismatch, InputTooLarge
from tasks.models import Task
from tasks.selectors.representation import file_json, task_json
from tasks.selectors.tasks import visible_task
from tasks.services.files import Content, discard, fill, reserve
from tasks.services.inputs import check_open, input_store, inputs_submit
from tenants.access import TenantView

ANY_BYTES = "application/octet-stream"
log = structlog.get_logger(__name__)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}", re.ASCII)


class TaskInput(TenantView):
    """One large input of a task."""

    required_scopes: ClassVar = {"PUT": "tasks:write"}
    streamed_methods: ClassVar = ("PUT",)

    @extend_schema(
        operation_id="inputs_upload",
        request={ANY_BYTES: OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter(
                digests.HEADER,
                location=OpenApiParameter.HEADER,
                description="`sha-256=:BASE64:` (RFC 9530); other bytes are refused.",
            )
        ],
        responses={200: dict[str, Any], 201: dict[str, Any]},
    )
    def put(self, request: Request, tenant: str, task_id: uuid.UUID, name: str) -> Response:
        """Upload a declared input, of any media type, or replace it; 201 when it is the first.

        Only while the task is ``allocated``. The input exists when the answer has come: a connection
        that is cut leaves nothing.
        """
        task = self._changeable(task_id)
        check_open(task, name)
        content = self._take(request)
        try:
            file, first = input_store(
                task.pk,
                name,
                content,
                media_type=_media_type(request),
                by=self.actor.name,
            )
        except BaseException:
            discard(content.key)
            raise
        return Response(file_json(file), status=201 if first else 200)

    def _changeable(self, task_id: uuid.UUID) -> Task:
        task = visible_task(self.actor, self.tenant, task_id)
        require_change_of(self.actor, task)
        return task

    def _take(self, request: Request) -> Content:
        """Stream the body into storage, holding no database connection meanwhile."""
        limit = settings.SWITCHYARD.max_input_bytes
        wanted = digests.sha256_of(request.headers.get(digests.HEADER))
        refuse_compression(request._request)
        if "Content-Range" in request.headers:
            raise BadRequest("An input is uploaded whole; leave Content-Range out.")
        if (declared_length(request._request) or 0) > limit:
            raise InputTooLarge(limit)
        [key] = reserve()
        give_connection_back()
        try:
            content = fill(key, reader_of(request._request), cap=limit)
            if wanted not in (None, content.sha256):
                raise DigestMismatch(content.sha256)
        except BaseException as error:
            discard(key)
            if isinstance(error, TooMuch):
                raise InputTooLarge(limit) from None
            if isinstance(error, OSError):
                log.error("content_not_written", error=str(error))
                raise Unavailable("The file cannot be stored at the moment.", retry_after=30) from None
            raise
        return content


class TaskSubmit(TenantView):
    """Letting an allocated task go."""

    required_scopes: ClassVar = {"POST": "tasks:write"}
    body = "optional"

    @extend_schema(
        operation_id="inputs_submit", request=SubmitInputsBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Let a task go whose inputs are all uploaded; it is then scheduled, blocked or queued."""
        SubmitInputsBody.read(request.data)
        task = visible_task(self.actor, self.tenant, task_id)
        require_change_of(self.actor, task)

        def let_go() -> Created:
            gone = inputs_submit(task.pk, by=self.actor.name)
            gone.tenant = self.tenant
            return Created(task_json(gone), status=200)

        return create_once(request, scope=self.actor.idempotency_scope, create=let_go)


def _media_type(request: Request) -> str:
    """Return what the client says the bytes are, without parameters; it is only ever shown."""
    named = request.headers.get("Content-Type", "").partition(";")[0].strip()
    return named.lower() if _MEDIA_TYPE.fullmatch(named) else ANY_BYTES
