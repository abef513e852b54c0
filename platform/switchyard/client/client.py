"""The client of one tenant: tasks first, the rest in parts of its own (`tokens`, `operator`)."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2

from switchyard.client.administration import Operator, Tokens
from switchyard.client.artifacts import Artifacts, OnBytes
from switchyard.client.backoff import Backoff
from switchyard.client.errors import (
    ApiError,
    InputsClosed,
    SwitchyardError,
    TaskFinished,
    UnusableConnection,
    is_passing,
)
from switchyard.client.following import PATIENCE, EventFollower, LogFollower, OnInterruption
from switchyard.client.models import Cancelled, Event, LogLine, Run, Task, Verdict
from switchyard.client.pages import results
from switchyard.client.transport import OnRetry, Transport, compact, query_value

OnUpload = Callable[[str, int], None]
"""Told, after each piece, an input's name and how many of its bytes have been sent."""

POLL = 30
"""Seconds that one request of `wait` lasts at most."""


class Client:
    """One platform, seen by one token, in one tenant.

    `url` is the server's address, `token` an API token (`sy_…`), `tenant` a slug; without one the
    token's only tenant is taken. `timeout` is the number of seconds that an answer may take,
    `operator_reason` is why a platform operator acts in a tenant (audited). Requests that failed for
    a passing reason are sent again (see `transport`); `on_retry` is told each time.

    A `task` is given as a `Task` or by its id. Every method raises `SwitchyardError`s only.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        tenant: str | None = None,
        *,
        timeout: float = 30.0,
        backoff: Backoff | None = None,
        operator_reason: str | None = None,
        on_retry: OnRetry | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.transport = Transport(
            url,
            token,
            headers=compact({"X-Operator-Reason": operator_reason}),
            timeout=timeout,
            backoff=backoff,
            on_retry=on_retry,
            transport=transport,
        )
        self._tenant = tenant or None
        self.tokens = Tokens(self.transport, lambda: self.below("tokens"))
        self.operator = Operator(self.transport)
        self.artifacts = Artifacts(
            self.transport, lambda task: self.below("tasks", task_id(task), "artifacts")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    # -- who and where ---------------------------------------------------------------------------

    @property
    def tenant(self) -> str:
        """The tenant's slug.

        Raises:
            UnusableConnection: none was given and the token has none or several.
        """
        if self._tenant is None:
            slugs = [str(tenant.get("slug", "")) for tenant in self.tenants()]
            if len(slugs) != 1:
                known = f" It has: {', '.join(slugs[:10])}." if slugs else ""
                raise UnusableConnection(f"Say which tenant is meant: the token does not tell.{known}")
            self._tenant = slugs[0]
        return self._tenant

    def below(self, *parts: str) -> str:
        """Return the path of something of the tenant."""
        return "/".join(["/api/v1/tenants", *(quote(part, safe="") for part in (self.tenant, *parts))])

    def me(self) -> Mapping[str, Any]:
        """Return who the token is."""
        return _mapping(self.transport.request("GET", "/api/v1/me"))

    def tenants(self) -> Iterator[Mapping[str, Any]]:
        """Yield the tenants that the caller belongs to."""
        return results(self.transport, "/api/v1/tenants")

    def task_types(self) -> Iterator[Mapping[str, Any]]:
        """Yield the task types that can be submitted."""
        return results(self.transport, self.below("task-types"))

    # -- tasks -----------------------------------------------------------------------------------

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        scheduled_for: datetime | None = None,
        depends_on: Sequence[Task | str] = (),
        key: str | None = None,
        max_retries: int | None = None,
        idempotent: bool | None = None,
        time_limit: float | None = None,
        secrets: Sequence[str] = (),
        uploads: Mapping[str, bytes | Path] | None = None,
        on_upload: OnUpload | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Task:
        """Submit a task and return it; what is None takes the type's default.

        It is safe against lost answers: an Idempotency-Key is always sent (made when not given), so
        however often the request has to be repeated it makes one task. `uploads` are large inputs:
        they are sent after the task is made, and then it is let go (`on_upload` is told the name and
        how many bytes have been sent); when one cannot be sent, the task is cancelled. `options` are
        further members of the request (`key_policy`, `retry`, `limits`, …; `/api/v1/docs`).

        Raises:
            BadRequest, KeyConflict, TooManyRequests, Unavailable: why it was not accepted.
        """
        body = _submission(
            type, params, queue=queue, priority=priority, labels=labels,
            scheduled_for=scheduled_for, depends_on=depends_on, key=key, max_retries=max_retries,
            idempotent=idempotent, time_limit=time_limit, secrets=secrets, options=options,
        )  # fmt: skip
        if uploads:
            body["inputs"] = sorted({*body.get("inputs", ()), *uploads})
        answer = self.transport.request(
            "POST", self.below("tasks"), body=body, key=idempotency_key or str(uuid.uuid4())
        )
        task = Task.of(answer)
        return self._with_inputs(task, uploads, on_upload) if uploads else task

    def try_submit(self, type: str, params: Mapping[str, Any] | None = None, **options: Any) -> Verdict:
        """Ask what would become of a submit (its options as for `submit`); nothing is stored.

        Raises:
            ApiError: what a real submit would get.
        """
        body = {**_submission(type, params, **options), "dry_run": True}
        return Verdict.of(self.transport.request("POST", self.below("tasks"), body=body))

    def upload_input(
        self,
        task: Task | str,
        name: str,
        content: bytes | Path,
        *,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Send one large input of a task that is `allocated`."""
        path = self.below("tasks", task_id(task), "inputs", name)
        self.transport.request("PUT", path, content=content, on_bytes=on_bytes)

    def _with_inputs(
        self, task: Task, uploads: Mapping[str, bytes | Path], on_upload: OnUpload | None
    ) -> Task:
        """Upload a new task's inputs and let it go; nothing half-made is left waiting."""
        try:
            for name, content in uploads.items():
                told = None if on_upload is None else partial(on_upload, name)
                self.upload_input(task, name, content, on_bytes=told)
            return self.release(task)
        except (InputsClosed, TaskFinished):
            # The same Idempotency-Key has gone all this way before.
            return self.task(task)
        except (ApiError, OSError, KeyboardInterrupt):
            with suppress(SwitchyardError):
                self.cancel(task, reason="Its inputs could not be uploaded.")
            raise

    def release(self, task: Task | str) -> Task:
        """Let a task go whose inputs are all there."""
        path = self.below("tasks", task_id(task), "submit")
        return Task.of(self.transport.request("POST", path, key=str(uuid.uuid4())))

    def task(self, task: Task | str) -> Task:
        """Return a task as it is now, with its runs."""
        return Task.of(self.transport.request("GET", self.below("tasks", task_id(task))))

    def tasks(self, *, limit: int | None = None, **filters: Any) -> Iterator[Task]:
        """Yield tasks, newest first; filters as in `/api/v1/docs` (a list is "any of these")."""
        query = {name: query_value(value) for name, value in compact(filters).items()}
        found = results(self.transport, self.below("tasks"), query, limit=limit, long=True)
        return (Task.of(task) for task in found)

    def cancel(self, task: Task | str, *, reason: str | None = None, force: bool = False) -> Cancelled:
        """Ask for the end of a task. It may be repeated: a second cancel changes nothing.

        Raises:
            TaskFinished: it has ended already.
        """
        body = compact({"reason": reason, "force": force or None})
        path = self.below("tasks", task_id(task), "cancel")
        return Cancelled.of(self.transport.request("POST", path, body=body, key=str(uuid.uuid4())))

    def retry(self, task: Task | str) -> Task:
        """Give a failed, cancelled or dropped task a new life, and return it."""
        path = self.below("tasks", task_id(task), "retry")
        answer = _mapping(self.transport.request("POST", path, body={}))
        return Task.of(answer.get("task", answer))

    def runs(self, task: Task | str) -> Iterator[Run]:
        """Yield the attempts at a task."""
        path = self.below("tasks", task_id(task), "runs")
        return (Run.of(run) for run in results(self.transport, path))

    # -- what a task says ------------------------------------------------------------------------

    def events(self, task: Task | str, after: int = 0) -> Iterator[Event]:
        """Yield the events that there are, in order, behind number `after`."""
        path = self.below("tasks", task_id(task), "events")
        found = results(self.transport, path, {"after": after}, long=True)
        return (Event.of(event) for event in found)

    def log(
        self,
        task: Task | str,
        *,
        after: int | None = None,
        run: int | None = None,
        stream: str | Sequence[str] | None = None,
        q: str | None = None,
    ) -> Iterator[LogLine]:
        """Yield the log lines that there are, in order; `q` is a piece of text to look for."""
        query = compact({"after": after, "run": run, "stream": stream, "q": q})
        query = {name: query_value(value) for name, value in query.items()}
        path = self.below("tasks", task_id(task), "log")
        return (LogLine.of(line) for line in results(self.transport, path, query, long=True))

    def follow_events(
        self,
        task: Task | str,
        after: int = 0,
        *,
        patience: float = PATIENCE,
        on_interruption: OnInterruption | None = None,
    ) -> EventFollower:
        """Iterate over a task's events as they happen; it reconnects by itself (see `following`)."""
        return EventFollower(
            self.transport,
            self.below("tasks", task_id(task)),
            after=after,
            patience=patience,
            on_interruption=on_interruption,
        )

    def follow_log(
        self,
        task: Task | str,
        after: int = 0,
        *,
        run: int | None = None,
        stream: str | None = None,
        patience: float = PATIENCE,
        on_interruption: OnInterruption | None = None,
    ) -> LogFollower:
        """Iterate over a task's log lines as they are printed; it reconnects by itself."""
        events = self.follow_events(task, after, patience=patience, on_interruption=on_interruption)
        return LogFollower(events, run=run, stream=stream)

    def wait(
        self, task: Task | str, timeout: float | None = None, *, patience: float = PATIENCE
    ) -> Task:
        """Return the task when it has ended, or as it is after `timeout` seconds (`ended` tells).

        It goes on through restarts of the server.

        Raises:
            Unreachable: there was no contact for `patience` seconds.
        """
        path = self.below("tasks", task_id(task), "wait")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        contact = time.monotonic()
        failures = 0
        while True:
            asked = max(0, math.ceil(min(POLL, deadline - time.monotonic())))
            started = time.monotonic()
            try:
                answer = self.transport.request(
                    "GET",
                    path,
                    query={"timeout": asked},
                    timeout=asked + self.transport.timeout,
                    attempts=1,
                )
            except SwitchyardError as error:
                now = time.monotonic()
                if not is_passing(error) or now - contact > patience or now > deadline:
                    raise
                failures += 1
                asked_for = getattr(error, "retry_after", None) or 0.0
                self.transport.sleep(max(self.transport.backoff.pause(failures), asked_for))
                continue
            contact, failures = time.monotonic(), 0
            found = Task.of(answer)
            if found.ended or contact >= deadline:
                return found
            if contact - started < min(1.0, asked):
                # A server that answers at once all the same must not be asked in a busy loop.
                self.transport.sleep(0.5)


def task_id(task: Task | str) -> str:
    """Return the id of a task that is given as itself or by its id."""
    return task.id if isinstance(task, Task) else task


def _submission(
    type: str,
    params: Mapping[str, Any] | None,
    *,
    labels: Mapping[str, str] | None = None,
    scheduled_for: datetime | None = None,
    depends_on: Sequence[Task | str] = (),
    secrets: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    **plain: Any,
) -> dict[str, Any]:
    """Return the body of a submit: only what was given."""
    body = {
        "type": type,
        "params": dict(params or {}),
        "labels": dict(labels) if labels else None,
        "scheduled_for": scheduled_for.isoformat() if scheduled_for else None,
        "depends_on": [task_id(parent) for parent in depends_on] or None,
        "secrets": list(secrets) or None,
    }
    return compact({**body, **plain, **(options or {})})


def _mapping(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) else {}
