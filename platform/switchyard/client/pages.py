"""Reading lists page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from switchyard.client.errors import UnexpectedAnswer
from switchyard.client.transport import Transport

LARGEST_PAGE = 200


def results(
    transport: Transport,
    path: str,
    query: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    long: bool = False,
) -> Iterator[Any]:
    """Yield the entries of a list in the server's order, at most `limit`, a page at a time.

    `long` asks for the largest pages, for lists that are often read to their end. Only the query of
    a page's `next` is used, never its host: the server may know itself by another name than we do,
    and a token must not follow a link elsewhere.

    Raises:
        UnexpectedAnswer: the answer is no list.
    """
    if limit is not None and limit < 1:
        return
    asked: dict[str, Any] = dict(query or {})
    if limit is not None or long:
        asked["limit"] = min(LARGEST_PAGE, limit or LARGEST_PAGE)
    left = limit
    while True:
        page = transport.request("GET", path, query=asked)
        entries = page.get("results") if isinstance(page, dict) else None
        if not isinstance(entries, list):
            raise UnexpectedAnswer(f"{transport.url} answered {path} with something that is no list.")
        for entry in entries:
            yield entry
            if left is not None:
                left -= 1
                if left == 0:
                    return
        following = page.get("next")
        if not following:
            return
        asked = dict(parse_qsl(urlsplit(following).query, keep_blank_values=True))
