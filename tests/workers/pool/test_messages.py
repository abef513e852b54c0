"""Which messages may run, as plain rules."""

from __future__ import annotations

from typing import Any

import pytest

from workers.messages import refusal, supervise_arguments

TASK = "0190a8a0-7c1e-7000-8000-000000000001"
PLAIN: dict[str, Any] = {
    "id": "m-1",
    "task": "workers.supervise",
    "eta": None,
    "expires": None,
    "group": None,
    "timelimit": [None, None],
    "stamped_headers": None,
    "stamps": {},
}
EMBEDDED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def judge(
    args: Any = (TASK, 1, "token"),
    kwargs: Any = None,
    embedded: dict[str, Any] | None = None,
    rule: Any = supervise_arguments,
    **headers: Any,
) -> str | None:
    body = [list(args), kwargs or {}, EMBEDDED | (embedded or {})]
    return refusal(PLAIN | headers, "application/json", body, rule)


def test_the_dispatchers_message_may_run() -> None:
    assert judge() is None


@pytest.mark.parametrize("part", ["callbacks", "errbacks", "chain", "chord"])
def test_an_embedded_part_is_refused(part: str) -> None:
    assert judge(embedded={part: [{"task": "workers.supervise"}]}) is not None
    assert judge(embedded={part: [{"task": "x"}]}, rule=None) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"eta": "2030-01-01T00:00:00"},
        {"expires": "2030-01-01T00:00:00"},
        {"group": "g-1"},
        {"timelimit": [10, None]},
        {"stamps": {"a": ["b"]}},
        {"compression": "application/x-gzip"},
        {"id": ""},
        {"id": 7},
    ],
)
def test_a_header_that_does_more_than_name_the_task_is_refused(headers: dict[str, Any]) -> None:
    assert judge(**headers) is not None


def test_a_platform_task_may_expire_but_not_be_delayed() -> None:
    assert judge(args=[], rule=None, expires="2030-01-01T00:00:00") is None
    assert judge(args=[], rule=None, eta="2030-01-01T00:00:00") is not None


@pytest.mark.parametrize(
    "args",
    [
        (),
        (TASK, 1),
        (TASK, 1, "token", "more"),
        ("no-uuid", 1, "token"),
        (7, 1, "token"),
        (None, 1, "token"),
        (TASK, 0, "token"),
        (TASK, True, "token"),
        (TASK, 1.5, "token"),
        (TASK, 2**63, "token"),
        (TASK, 1, ""),
        (TASK, 1, None),
        (TASK, 1, "x" * 257),
    ],
)
def test_arguments_other_than_task_epoch_and_token_are_refused(args: Any) -> None:
    assert judge(args=args) is not None


def test_keyword_arguments_are_refused() -> None:
    assert judge(kwargs={"token": "x"}) is not None


@pytest.mark.parametrize("body", [None, 7, "text", {}, [], [[], {}], [{}, {}, {}], [[], [], {}]])
def test_a_body_of_another_shape_is_refused(body: Any) -> None:
    assert refusal(PLAIN, "application/json", body, None) is not None


@pytest.mark.parametrize("headers", [None, "text", [], {}])
def test_headers_of_another_shape_are_refused(headers: Any) -> None:
    assert refusal(headers, "application/json", [[], {}, {}], None) is not None


def test_another_content_type_is_refused() -> None:
    assert refusal(PLAIN, "application/x-python-serialize", [[], {}, {}], None) is not None
