"""Sending one request until there is an answer: retries, problem documents, event streams.

What is sent again: what never left (no connection), and after a lost connection, 429, 502, 503 or 504
whatever is safe to repeat: GET, PUT, DELETE, and POST only with an Idempotency-Key.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx2

from switchyard.client.backoff import Backoff, retry_after
from switchyard.client.errors import (
    SwitchyardError,
    UnexpectedAnswer,
    Unreachable,
    UnusableConnection,
    error_of,
)

PASSING = frozenset({429, 502, 503, 504})
SILENCE = 45.0
"""Seconds without a byte after which a stream counts as dead; the server speaks more often."""
LARGEST_EVENT = 64 * 1024 * 1024
CONNECT = 5.0
PIECE = 256 * 1024

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

Content = bytes | Path
"""A body that is sent as it is; a file is read anew for each attempt."""
OnRetry = Callable[[SwitchyardError, float], None]
"""Told before each further attempt: what went wrong, and after how many seconds it is sent again."""


class Transport:
    """One server and one token; not safe to share between threads that close it.

    `timeout` is the number of seconds that an answer may take, `transport` replaces the network
    (tests), `sleep` replaces waiting.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        backoff: Backoff | None = None,
        on_retry: OnRetry | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = checked_url(url)
        self.backoff = backoff or Backoff()
        self.on_retry = on_retry
        self.sleep = sleep
        self.timeout = timeout
        sent = {"Accept": "application/json", "User-Agent": "switchyard-client", **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {_checked_token(token)}"
        self._http = httpx2.Client(
            base_url=self.url,
            headers=sent,
            timeout=httpx2.Timeout(timeout, connect=CONNECT),
            transport=transport,
            # Loading the authorities takes 150 ms; a plain address never uses them.
            verify=self.url.startswith("https:"),
            # A proxy that is meant for the world outside must not get what is for this machine.
            trust_env=urlsplit(self.url).hostname not in ("localhost", "127.0.0.1", "::1"),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        content: Content | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        attempts: int | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Any:
        """Send a request and return the answer's JSON (None for an empty answer).

        `body` is sent as JSON, `content` as bytes (`on_bytes` is told how many have been sent, where
        it is a file); `key` is the Idempotency-Key.

        Raises:
            ApiError: the platform refused it.
            Unreachable: no answer came, however often it was sent.
            UnexpectedAnswer: the answer is not the API's.
        """
        sent = dict(headers or {})
        if key is not None:
            sent["Idempotency-Key"] = key
        repeatable = method != "POST" or key is not None
        failures = 0
        while True:
            try:
                response = self._send(method, path, query, body, content, sent, timeout, on_bytes)
            except httpx2.TransportError as error:
                failure: SwitchyardError = self.unreachable(error)
                again = repeatable or isinstance(error, _NEVER_SENT)
                asked = None
            else:
                if response.is_success:
                    return self._json(response)
                failure = self._refusal(response)
                again = repeatable and response.status_code in PASSING
                asked = retry_after(response.headers.get("Retry-After"))
            failures += 1
            last = attempts is not None and failures >= attempts
            pause = self.backoff.again(failures, asked) if again and not last else None
            if pause is None:
                raise failure
            if self.on_retry is not None:
                self.on_retry(failure, pause)
            self.sleep(pause)

    def probe(self, path: str) -> tuple[int, Any]:
        """Send one GET, whatever it answers; return its status and its JSON.

        Raises:
            Unreachable: no answer came.
            UnexpectedAnswer: the answer is not JSON.
        """
        try:
            response = self._http.get(path)
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error
        return response.status_code, self._json(response)

    @contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """GET bytes, piece by piece; their end before the promised length is an error.

        Raises:
            ApiError: the platform refused it.
            Unreachable: there was no connection, or it broke.
        """
        # A proxy that compresses would have the bytes come in another length than was promised.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
                yield response.iter_bytes()
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error

    @contextmanager
    def events(
        self, path: str, query: Mapping[str, Any], last_event_id: str
    ) -> Iterator[Iterator[httpx2.ServerSentEvent]]:
        """Open an event stream; its end, however it came, is the end of the iteration or an error.

        Raises:
            ApiError: the platform refused it.
            Unreachable: there was no connection, it broke, or it was silent for too long.
            UnexpectedAnswer: the answer is no event stream.
        """
        try:
            with self._http.sse(
                path,
                params=query,
                # A proxy that compresses would hold lines back until a block is full.
                headers={"Last-Event-ID": last_event_id, "Accept-Encoding": "identity"},
                timeout=httpx2.Timeout(self.timeout, connect=CONNECT, read=SILENCE),
                max_event_size=LARGEST_EVENT,
            ) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise self._refusal(source.response)
                yield iter(source)
        except httpx2.SSEError as error:
            raise UnexpectedAnswer(f"{self.url} did not answer with events: {error}") from error
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Unreachable:
        """Return the error for a connection that failed."""
        reason = _ERRNO.sub("", str(error)) or type(error).__name__
        if isinstance(error, httpx2.TimeoutException):
            reason = "no answer in time"
        return Unreachable(f"Cannot reach {self.url}: {reason}.")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: object,
        content: Content | None,
        headers: dict[str, str],
        timeout: float | None,
        on_bytes: Callable[[int], None] | None,
    ) -> httpx2.Response:
        within = httpx2.Timeout(timeout or self.timeout, connect=CONNECT)
        if content is None:
            return self._http.request(
                method, path, params=query, json=body, headers=headers, timeout=within
            )
        headers = {"Content-Type": "application/octet-stream", **headers}
        if isinstance(content, bytes):
            return self._http.request(
                method, path, params=query, content=content, headers=headers, timeout=within
            )
        with content.open("rb") as stream:
            # With its length, and not in chunks: so a proxy can refuse what is too large at once.
            headers["Content-Length"] = str(os.fstat(stream.fileno()).st_size)
            pieces = _pieces(stream, on_bytes)
            return self._http.request(
                method, path, params=query, content=pieces, headers=headers, timeout=within
            )

    def _json(self, response: httpx2.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise UnexpectedAnswer(
                f"{self.url} answered something that is not JSON; is it the address of a Switchyard?"
            ) from None

    def _refusal(self, response: httpx2.Response) -> SwitchyardError:
        if response.is_redirect:
            target = response.headers.get("Location", "elsewhere")
            return UnexpectedAnswer(f"{self.url} sends requests on to {target}; use that address.")
        try:
            members = response.json()
        except ValueError:
            members = None
        told = members if isinstance(members, dict) else {}
        if "instance" not in told and "X-Request-ID" in response.headers:
            told = {**told, "instance": response.headers["X-Request-ID"]}
        if "detail" not in told and response.status_code == 404:
            return UnexpectedAnswer(
                f"{self.url} does not know this address; is it the address of a Switchyard?"
            )
        return error_of(response.status_code, told, retry_after(response.headers.get("Retry-After")))


def _pieces(stream: IO[bytes], on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    sent = 0
    while piece := stream.read(PIECE):
        yield piece
        sent += len(piece)
        if on_bytes is not None:
            on_bytes(sent)


def checked_url(url: str) -> str:
    """Return a server's address without a slash at its end.

    Raises:
        UnusableConnection: it is not an http or https address with a host.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UnusableConnection(
            f"{url!r} is not a server's address; it looks like https://switchyard.example."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UnusableConnection(
            "A server's address holds neither user nor password, query nor fragment; "
            "the token is given apart."
        )
    return url.strip().rstrip("/")


def _checked_token(token: str) -> str:
    text = token.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UnusableConnection("The token has characters that no token has; copy it again.")
    return text


def compact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that were given: what is None is left out."""
    return {name: value for name, value in values.items() if value is not None}


def query_value(value: object) -> object:
    """Return a filter's value as the query wants it: lists joined by commas, times in RFC 3339."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(str(query_value(entry)) for entry in value)
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat is not None else value
