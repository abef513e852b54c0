"""A small real server that speaks the parts of the contract that the client and the command need.

It keeps tasks and events in memory, streams them over real sockets, and can be told to misbehave: to
cut a stream in the middle of an event, to end one without a word, to repeat events, to refuse
requests, to go away and come back on the same port. What the platform itself does is tested in e2e.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import uvicorn

TOKEN = "sy_contract"
TENANT = "demo"
TERMINAL = {"completed", "failed", "cancelled", "dropped"}

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Cut(Exception):
    """Ends a connection without the end of its answer."""


class ContractServer:
    """The server and, in its attributes, what it holds and how it misbehaves."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.keys: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.uploads: dict[str, bytes] = {}
        self.artifacts: dict[str, tuple[str, bytes]] = {}
        self.refusals: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.on_submit: Callable[[str], None] | None = None
        self.on_cancel: Callable[[str], None] | None = None
        # How each next stream ends, in order: "cut" in the middle of an event after the given number
        # of events, "close" after them; `repeat` sends everything again from event 1.
        self.stream_ends: list[tuple[str, int]] = []
        self.repeat = False
        self.says_end = True
        self.streams = 0
        self.operator_status: dict[str, Any] | None = None
        # An answer to that question instead, or to every one: status, content type and text.
        self.broken_status: tuple[int, str, str] | None = None
        self.everything: tuple[int, str, str] | None = None
        self.ready: dict[str, Any] = {"status": "ok"}
        # What the operator's list of workers holds; one that is "gone" ends before it is asked for.
        self.workers: list[dict[str, Any]] = []
        # What the pools look like, one answer after another; the last one stays.
        self.pools: list[list[dict[str, Any]]] = [[]]
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    # -- the process -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            interface="asgi3",
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        until(lambda: self._server is not None and self._server.started, "server started")

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join(10)
        self._server = self._thread = None

    # -- what happens to tasks -------------------------------------------------------------------

    def task(self, **members: Any) -> str:
        """Make a task that is queued; return its id."""
        name = str(uuid.uuid4())
        self.tasks[name] = {
            "id": name,
            "tenant": TENANT,
            "type": "shell.command",
            "queue": "normal",
            "status": "queued",
            "status_reason": None,
            "params": {},
            "labels": {},
            "created_at": now(),
            "started_at": None,
            "finished_at": None,
            "submitted_by": "token:ci",
            "last_seq": 0,
            "links": {},
            "runs": [],
            "result": None,
            "error": None,
            **members,
        }
        self.events[name] = []
        self.say(name, "state", {"status": "queued", "from": None, "reason": None})
        return name

    def say(self, name: str, kind: str, data: dict[str, Any], run: int | None = None) -> None:
        """Add an event."""
        seq = len(self.events[name]) + 1
        frame = {"seq": seq, "at": now(), "kind": kind, "run": run, "data": data}
        self.events[name].append(frame)
        self.tasks[name]["last_seq"] = seq

    def run(self, name: str) -> None:
        """Let a task start."""
        self.tasks[name].update(status="running", started_at=now())
        self.say(name, "state", {"status": "running", "from": "queued", "reason": None}, 1)

    def lines(self, name: str, *texts: str, stream: str = "stdout") -> None:
        """Let a task print lines, as one event."""
        first = 1 + sum(len(frame["data"].get("lines", ())) for frame in self.events[name])
        lines = [{"n": first + i, "at": now(), "text": text} for i, text in enumerate(texts)]
        self.say(name, "log", {"stream": stream, "lines": lines}, 1)

    def end(self, name: str, status: str = "completed", **members: Any) -> None:
        """Let a task end."""
        self.tasks[name].update(finished_at=now(), **members)
        self.say(name, "state", {"status": status, "from": "running", "reason": None}, 1)
        self.tasks[name]["status"] = status

    # -- HTTP ------------------------------------------------------------------------------------

    async def _application(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.requests.append((scope["method"], scope["path"], headers))
        if self.refusals:
            await answer(send, *self.refusals.pop(0))
            return
        path = scope["path"]
        if self.everything is not None:
            await raw_answer(send, *self.everything)
        elif path == "/health/ready":
            await answer(send, 200 if self.ready.get("status") == "ok" else 503, {}, self.ready)
        elif headers.get("authorization") != f"Bearer {TOKEN}":
            await problem(send, 401, "not_authenticated", "Send an API token.")
        else:
            await self._api(scope["method"], path, query, headers, body, send)

    async def _api(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes,
        send: Send,
    ) -> None:
        base = f"/api/v1/tenants/{TENANT}/tasks"
        if path == "/api/v1/me":
            await answer(send, 200, {}, {"name": "ci", "kind": "token"})
        elif path == "/api/v1/tenants":
            await answer(send, 200, {}, page([{"slug": TENANT, "name": "Demo"}]))
        elif path == "/api/v1/operator/status":
            if self.broken_status is not None:
                await raw_answer(send, *self.broken_status)
            elif self.operator_status is None:
                await problem(send, 403, "forbidden", "Only platform operators may do this.")
            else:
                await answer(send, 200, {}, self.operator_status)
        elif path == "/api/v1/operator/workers":
            await answer(send, 200, {}, page(self.workers))
        elif path.startswith("/api/v1/operator/workers/"):
            (found,) = (each for each in self.workers if each["id"] == path.split("/")[-2])
            if found["status"] == "gone":
                await problem(send, 404, "not_found", "There is no such worker.")
            else:
                await answer(send, 200, {}, {"changed": True, "worker": found})
        elif path == "/api/v1/operator/pools":
            if method == "PATCH":
                self.bodies.append(json.loads(body))
            await answer(send, 200, {}, page(self.pools[0]))
            self.pools = self.pools[1:] or self.pools
        elif path.startswith(f"/api/v1/tenants/{TENANT}/tokens"):
            made = {"id": "t1", "name": "ci", "prefix": "sy_a", "scopes": ["*"], "expires_at": None}
            if method == "POST":
                await answer(send, 201, {}, {**made, **json.loads(body), "token": "sy_new"})
            elif method == "DELETE":
                await answer(send, 204, {}, None)
            else:
                await answer(send, 200, {}, page([made]))
        elif path == base and method == "POST":
            await self._submit(json.loads(body), headers.get("idempotency-key"), send)
        elif path == base:
            newest = sorted(self.tasks.values(), key=lambda task: task["created_at"], reverse=True)
            start, limit = int(query.get("cursor", 0)), int(query.get("limit", 50))
            more = start + limit < len(newest)
            link = f"https://elsewhere.example{base}?limit={limit}&cursor={start + limit}"
            found = newest[start : start + limit]
            await answer(send, 200, {}, page(found, link if more else None))
        elif path.startswith(f"{base}/"):
            name, _, verb = path.removeprefix(f"{base}/").partition("/")
            if name not in self.tasks:
                await problem(send, 404, "not_found", "There is no such thing here.")
            else:
                await self._task(method, name, verb, query, headers, body, send)
        else:
            await problem(send, 404, "not_found", "There is no such thing here.")

    async def _submit(self, body: dict[str, Any], key: str | None, send: Send) -> None:
        if body.get("type") == "no.such":
            await problem(
                send,
                400,
                "unknown_task_type",
                "There is no task type 'no.such'.",
                errors=[{"pointer": "/type", "code": "unknown_task_type", "detail": "unknown"}],
            )
            return
        if body.get("dry_run"):
            await answer(send, 200, {}, {"accepted": True, "would": "start", "waiting_for": None})
            return
        if key is not None and key in self.keys:
            replay = {"Idempotent-Replayed": "true"}
            await answer(send, 200, replay, self.tasks[self.keys[key]])
            return
        self.bodies.append(body)
        kept = {name: body[name] for name in ("type", "queue", "params", "labels") if name in body}
        status = "allocated" if body.get("inputs") else "queued"
        name = self.task(**{"status": status, **kept})
        if key is not None:
            self.keys[key] = name
        if self.on_submit is not None:
            self.on_submit(name)
        await answer(send, 201, {}, self.tasks[name])

    async def _task(
        self,
        method: str,
        name: str,
        verb: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes,
        send: Send,
    ) -> None:
        task = self.tasks[name]
        if verb == "events" and headers.get("accept") == "text/event-stream":
            await self._stream(name, int(headers.get("last-event-id", query.get("after", 0))), send)
        elif verb == "events":
            after = int(query.get("after", 0))
            await answer(send, 200, {}, page(self.events[name][after:]))
        elif verb == "log":
            found = [
                {"seq": frame["seq"], "run": frame["run"], "stream": frame["data"]["stream"], **line}
                for frame in self.events[name]
                for line in frame["data"].get("lines", ())
            ]
            await answer(send, 200, {}, page(found))
        elif verb == "wait":
            deadline = time.monotonic() + float(query["timeout"])
            while task["status"] not in TERMINAL and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await answer(send, 200, {}, task)
        elif verb == "cancel":
            if task["status"] in TERMINAL:
                await problem(send, 409, "task_finished", "The task has ended (completed).")
                return
            if self.on_cancel is not None:
                self.on_cancel(name)
            await answer(send, 200, {}, {"changed": True, "task": task})
        elif verb.startswith("inputs/") and method == "PUT":
            self.uploads[verb.removeprefix("inputs/")] = body
            await answer(send, 204, {}, None)
        elif verb == "artifacts":
            listed = [
                {
                    "id": key,
                    "name": path,
                    "run": 1,
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
                for key, (path, data) in self.artifacts.items()
            ]
            await answer(send, 200, {}, page(listed))
        elif verb.startswith("artifacts/"):
            _, data = self.artifacts[verb.removeprefix("artifacts/")]
            await start(send, 200, {"Content-Type": "text/plain"})
            await send({"type": "http.response.body", "body": data})
        elif verb == "submit":
            task["status"] = "queued"
            await answer(send, 200, {}, task)
        else:
            await answer(send, 200, {}, task)

    async def _stream(self, name: str, after: int, send: Send) -> None:
        self.streams += 1
        ends, count = self.stream_ends.pop(0) if self.stream_ends else ("", -1)
        sent = 0 if self.repeat else after
        await start(send, 200, {"Content-Type": "text/event-stream"})
        await write(send, ": hello\n\n")
        while True:
            for frame in self.events[name][sent:]:
                text = f"id: {frame['seq']}\nevent: {frame['kind']}\ndata: {json.dumps(frame)}\n\n"
                if count == 0 and ends == "cut":
                    await write(send, text[: len(text) // 2])
                    raise Cut
                if count == 0:
                    await send({"type": "http.response.body", "body": b""})
                    return
                await write(send, text)
                sent, count = frame["seq"], count - 1
            if self.tasks[name]["status"] in TERMINAL and sent == len(self.events[name]):
                if self.says_end:
                    end = {"kind": "end", "status": self.tasks[name]["status"], "seq": sent}
                    await write(send, f"event: end\ndata: {json.dumps(end)}\n\n")
                await send({"type": "http.response.body", "body": b""})
                return
            await asyncio.sleep(0.005)


async def answer(send: Send, status: int, headers: dict[str, str], body: Any) -> None:
    kind = "application/problem+json" if status >= 400 else "application/json"
    content = b"" if body is None else json.dumps(body).encode()
    length = {} if status == 204 else {"Content-Length": str(len(content))}
    await start(send, status, {"Content-Type": kind, **length, **headers})
    await send({"type": "http.response.body", "body": content})


async def raw_answer(send: Send, status: int, kind: str, text: str) -> None:
    await start(send, status, {"Content-Type": kind})
    await write(send, text)
    await send({"type": "http.response.body", "body": b""})


async def problem(send: Send, status: int, code: str, detail: str, **members: Any) -> None:
    body = {"status": status, "code": code, "detail": detail, "instance": "req-1", **members}
    await answer(send, status, {}, body)


async def start(send: Send, status: int, headers: dict[str, str]) -> None:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def page(results: list[Any], following: str | None = None) -> dict[str, Any]:
    return {"results": results, "next": following, "previous": None}


def now() -> str:
    return datetime.now(UTC).isoformat()


def until(condition: Callable[[], Any], what: str, seconds: float = 10) -> None:
    """Ask until the answer is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
