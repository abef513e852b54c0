"""The parts of the client that few programs need: a tenant's tokens, and the operators' view."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from switchyard.client.pages import results
from switchyard.client.transport import Transport, compact


class Tokens:
    """The API tokens of the tenant; `path` is asked only when one is used."""

    def __init__(self, transport: Transport, path: Callable[[], str]) -> None:
        self._transport = transport
        self._path = path

    def list(self) -> Iterator[Mapping[str, Any]]:
        """Yield the tokens; never their secrets."""
        return results(self._transport, self._path())

    def create(
        self, name: str, scopes: Sequence[str], *, expires_in: float | None = None
    ) -> Mapping[str, Any]:
        """Make a token; `token` in the answer is shown this once. `expires_in` is in seconds.

        After a lost answer the request is not repeated by the same key: a replay could not show the
        secret. Make another token and revoke the first.
        """
        body = compact({"name": name, "scopes": [*scopes], "expires_in": expires_in})
        return _object(self._transport.request("POST", self._path(), body=body))

    def revoke(self, token: str) -> None:
        """End a token, given by its id, at once."""
        self._transport.request("DELETE", f"{self._path()}/{quote(token, safe='')}")


class Operator:
    """What platform operators see, over all tenants."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def status(self) -> Mapping[str, Any]:
        """Return the state of every component."""
        return _object(self._transport.request("GET", "/api/v1/operator/status"))

    def queues(self) -> Iterator[Mapping[str, Any]]:
        """Yield the queues with their counts."""
        return self._list("queues")

    def workers(self) -> Iterator[Mapping[str, Any]]:
        """Yield the workers that are alive."""
        return self._list("workers")

    def pools(self) -> Iterator[Mapping[str, Any]]:
        """Yield the pools: bounds, target and why, slots, how many are busy, what waits."""
        return self._list("pools")

    def scale(self, bounds: Mapping[str, tuple[int, int]]) -> Sequence[Mapping[str, Any]]:
        """Set the fewest and the most slots of pools on each machine, all or none; return all pools."""
        body = {queue: {"min": least, "max": most} for queue, (least, most) in bounds.items()}
        answer = self._transport.request("PATCH", "/api/v1/operator/pools", body=body)
        return list(_object(answer).get("results", ()))

    def drain(self, worker: str) -> Mapping[str, Any]:
        """Let a worker, given by its id, finish what it runs and end; another takes its place."""
        path = f"/api/v1/operator/workers/{quote(worker, safe='')}/drain"
        return _object(self._transport.request("POST", path))

    def tenants(self) -> Iterator[Mapping[str, Any]]:
        """Yield all tenants."""
        return self._list("tenants")

    def create_tenant(self, slug: str, name: str) -> Mapping[str, Any]:
        """Make a tenant."""
        return _object(
            self._transport.request(
                "POST",
                "/api/v1/operator/tenants",
                body={"slug": slug, "name": name},
                key=str(uuid.uuid4()),
            )
        )

    def routes(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rules for which queue a task goes to, in their order."""
        return self._list("routes")

    def set_route(
        self, name: str, *, match: Mapping[str, Any], queue: str, position: int | None = None
    ) -> Mapping[str, Any]:
        """Make a rule, or replace all of it; `match` has the members of the API's."""
        body = compact({"match": dict(match), "queue": queue, "position": position})
        return _object(self._transport.request("PUT", self._path("routes", name), body=body))

    def delete_route(self, name: str) -> None:
        """Delete a rule."""
        self._transport.request("DELETE", self._path("routes", name))

    def windows(self) -> Iterator[Mapping[str, Any]]:
        """Yield the off-peak windows of types and tenants, and whether they are open."""
        yield from self._list("windows/types")
        yield from self._list("windows/tenants")

    def set_windows(
        self, subject: str, name: str, windows: Mapping[str, Any], *, reason: str | None = None
    ) -> Mapping[str, Any]:
        """Set the off-peak windows of a `type` or a `tenant`; an empty list takes them away.

        `reason` is why an operator changes a tenant (audited).
        """
        if subject == "tenant":
            path = f"/api/v1/tenants/{quote(name, safe='')}/limits"
            body: Mapping[str, Any] = {"queues": {"batch": {"windows": windows}}}
        else:
            path, body = f"{self._path('task-types', name)}/windows", windows
        headers = compact({"X-Operator-Reason": reason})
        return _object(self._transport.request("PUT", path, body=body, headers=headers))

    def _path(self, kind: str, name: str) -> str:
        return f"/api/v1/operator/{kind}/{quote(name, safe='')}"

    def _list(self, name: str) -> Iterator[Mapping[str, Any]]:
        return results(self._transport, f"/api/v1/operator/{name}")


def ready(transport: Transport) -> tuple[bool, Mapping[str, Any]]:
    """Ask `/health/ready`, which needs no token: is the server ready, and what does it say."""
    status, told = transport.probe("/health/ready")
    return status < 300, _object(told)


def _object(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) else {}
