"""`http.request`: one request to an address that tenants may reach, with its answer as the result.

At level `full` it goes through the egress proxy, which checks the address. Below that the handler
checks it itself, by the same rules, and connects to the address that it checked. Redirects are
followed five times, each checked like the first.
"""

from __future__ import annotations

import os

from switchyard import RunContext, TaskError, handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPConnection, HTTPResponse
    from typing import Any
    from urllib.parse import SplitResult

KIB = 1024
BODY_CAP = 256 * KIB
REDIRECTS = 5
NAME = r"[^\s/?#@:\[\]\\]+"
PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "method": {
            "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            "default": "GET",
        },
        "url": {
            "type": "string",
            "description": "An http or https address without a user name or password, which belong into "
            "`headers`; a port is 1 to 65535.",
            "pattern": rf"^https?://(?:{NAME}|\[[0-9A-Fa-f:.]+\])(?::{PORT})?(?:[/?#]\S*)?$(?!\n)",
            "maxLength": 8192,
        },
        "headers": {
            "type": "object",
            "default": {},
            "maxProperties": 100,
            "propertyNames": {"pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", "maxLength": 256},
            "additionalProperties": {
                "type": "string",
                "pattern": r"^[^\r\n]*$",
                "maxLength": 8 * KIB,
            },
        },
        "body": {"type": ["string", "null"], "default": None, "maxLength": 512 * KIB},
        "expect_status": {
            "type": "array",
            "items": {"type": "integer", "minimum": 100, "maximum": 599},
            "default": [200],
            "minItems": 1,
            "maxItems": 100,
        },
        "timeout": {"type": "number", "default": 30, "exclusiveMinimum": 0, "maximum": 300},
    },
}


@handler(
    "http.request",
    queue="normal",
    params=PARAMS,
    title="Send an HTTP request",
    time_limit=900,
    network=True,
)
def send(run: RunContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Send one HTTP request and keep its status, headers and up to 256 KiB of its body."""
    from http.client import HTTPException
    from urllib.parse import urljoin, urlsplit

    method, body = params.get("method", "GET"), params.get("body")
    headers = {name.lower(): value for name, value in params.get("headers", {}).items()}
    url = urlsplit(params["url"])
    for _ in range(REDIRECTS + 1):
        run.check_cancelled()
        try:
            connection = _connect(url, params.get("timeout", 30), run.egress_allow)
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            data = body.encode() if body is not None else None
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            location = answer.getheader("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return _result(answer, params.get("expect_status", [200]))
            if answer.status in params.get("expect_status", [200]):
                return _result(answer, [answer.status])
        except (OSError, HTTPException, ValueError) as error:
            text = str(error) or type(error).__name__
            refused = "403" in text and "Tunnel" in text
            code = "address_refused" if refused else "request_failed"
            raise TaskError(code, f"{url.hostname} cannot be reached: {text}.") from error
        new = urlsplit(urljoin(url.geturl(), location))
        if (new.scheme, new.netloc) != (url.scheme, url.netloc):
            for name in ("authorization", "cookie", "host"):
                headers.pop(name, None)
        if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
            method, body = "GET", None
        url = new
    raise TaskError("too_many_redirects", f"The answer redirects more than {REDIRECTS} times.")


def _connect(url: SplitResult, timeout: float, allowed: tuple[str, ...]) -> HTTPConnection:
    """A connection to a checked address of the host; TaskError when it may not be reached."""
    import socket
    from http.client import HTTPConnection, HTTPSConnection

    if url.scheme not in ("http", "https") or not url.hostname:
        raise TaskError("address_refused", "Only http and https addresses can be requested.")
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    kind = HTTPSConnection if secure else HTTPConnection
    proxy = os.environ.get("https_proxy")
    if proxy:
        host, _, proxy_port = proxy.rpartition("//")[2].partition(":")
        connection = kind(host, int(proxy_port), timeout=timeout)
        connection.set_tunnel(url.hostname, port)
        return connection
    from workers.sandbox.addresses import AddressRefused, check, networks

    try:
        addresses = check(url.hostname, port, networks(allowed))
    except AddressRefused as error:
        raise TaskError("address_refused", str(error)) from None
    connection = kind(url.hostname, port, timeout=timeout)

    def reach(_target: object, seconds: float, _source: object = None) -> socket.socket:
        """Connect to the first checked address that answers, whatever the name now resolves to."""
        failure: OSError | None = None
        for address in addresses:
            try:
                return socket.create_connection((address, port), seconds)
            except OSError as error:
                failure = error
        raise failure or OSError("no address")

    connection._create_connection = reach  # type: ignore[attr-defined]
    return connection


def _result(answer: HTTPResponse, expected: list[int]) -> dict[str, Any]:
    raw = answer.read(BODY_CAP + 1)
    charset = answer.headers.get_content_charset("utf-8")
    try:
        text = raw[:BODY_CAP].decode(charset, "replace")
    except LookupError:
        text = raw[:BODY_CAP].decode("utf-8", "replace")
    result = {
        "status": answer.status,
        "headers": {name.lower(): _storable(value) for name, value in answer.headers.items()},
        "body": _storable(text),
        "truncated": len(raw) > BODY_CAP,
    }
    if answer.status not in expected:
        message = f"The answer has status {answer.status}, expected was {expected}."
        raise TaskError("unexpected_status", message, detail=result)
    return result


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
