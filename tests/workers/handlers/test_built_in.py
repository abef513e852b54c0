# ruff: noqa: E501 - one case a line reads best
"""The built-in task types as the registry gives them, and their parameters."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from switchyard.errors import HandlerDefinitionError
from tasks.errors import BadParams
from tasks.schemas import check_params
from workers import registry
from workers.handlers import shell
from workers.registry import GROUP, check_schema, load

TYPES = load(test_types=True).types


def errors(name: str, params: Any) -> list[str]:
    validator = Draft202012Validator(TYPES[name].params_schema)
    return [error.json_path for error in validator.iter_errors(params)]


def test_test_types_are_there_only_when_asked_for() -> None:
    assert set(load().types) == {"shell.command", "http.request"}
    assert TYPES.keys() == {"shell.command", "http.request", "test.dummy"}


def test_the_types_are_as_the_contract_says() -> None:
    command, request, dummy = (TYPES[each] for each in ("shell.command", "http.request", "test.dummy"))
    assert (command.queue, command.cancellable, command.idempotent, command.max_retries) == (
        "normal",
        True,
        False,
        0,
    )
    assert (command.entry, command.steering, command.network) == (
        "workers.handlers.shell:run_command",
        True,
        True,
    )
    assert (request.queue, request.network, request.steering) == ("normal", True, False)
    assert (dummy.idempotent, dummy.max_retries) == (True, 3)
    assert all(each.description for each in TYPES.values())


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "https://a.b:443/x?y=z#w",
        "http://a:1",
        "http://a:65535/",
        "http://[::1]:8080/x",
        "http://127.0.0.1/a@b:99999",
        "http://a?at=b@c",
        "http://b\u00fccher.example/",
    ],
)
def test_an_address_that_can_be_requested_is_taken(url: str) -> None:
    check_params(TYPES["http.request"].params_schema, {"url": url})


@pytest.mark.parametrize(
    "url",
    [
        "http://a@b.com",
        "http://user:word@b.com/x",
        "http://a:99999",
        "http://a:65536/",
        "http://a:0",
        "http://a:08",
        "http://a:x/",
        "http://a:80:80",
        "http://:80",
        "http:///x",
        "http://[::1",
        "http://a\\@b.com",
        "http://a b",
        "http://a\n",
        "ftp://a",
    ],
)
def test_an_address_that_cannot_be_requested_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(BadParams) as refused:
        check_params(TYPES["http.request"].params_schema, {"url": url})
    (error,) = refused.value.errors
    assert (error.pointer, error.code) == ("/params/url", "pattern")
    assert "`headers`" in error.detail
    assert "65535" in error.detail
    # What is refused may hold a password.
    assert url not in error.detail


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("shell.command", {"command": ["ruff", "check", "."], "source": {"git": "https://x/y", "ref": "main", "depth": 1}}),
        ("shell.command", {"command": "a | b", "source": None, "workdir": "x/y", "env": {"A_1": "b"}, "stdin": "x"}),
        ("shell.command", {"command": "x", "success_codes": [0, 2], "artifacts": ["reports/**"], "network": True}),
        ("http.request", {"method": "POST", "url": "https://x", "headers": {"A": "b"}, "body": "x", "expect_status": [201], "timeout": 5}),
        ("test.dummy", {}),
        ("test.dummy", {"seconds": 1.5, "steps": 3, "fail": "x", "fail_times": 2, "error_code": "bad", "signal": "KILL"}),
    ],
)  # fmt: skip
def test_good_params_are_accepted(name: str, params: dict[str, Any]) -> None:
    assert errors(name, params) == []


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("shell.command", {}),
        ("shell.command", {"command": []}),
        ("shell.command", {"command": ""}),
        ("shell.command", {"command": [1]}),
        ("shell.command", {"command": "x", "other": 1}),
        ("shell.command", {"command": "x", "env": {"A B": "x"}}),
        ("shell.command", {"command": "x", "env": {"SWITCHYARD_RUN": "x"}}),
        ("shell.command", {"command": "x", "env": {"A": 1}}),
        ("shell.command", {"command": "x", "source": {"ref": "main"}}),
        ("shell.command", {"command": "x", "source": {"git": "https://x", "ref": "-x"}}),
        ("shell.command", {"command": "x", "source": {"git": "https://x", "depth": 0}}),
        ("shell.command", {"command": "x", "success_codes": [256]}),
        ("shell.command", {"command": "x", "success_codes": []}),
        ("shell.command", {"command": "x", "network": "yes"}),
        ("http.request", {"url": "ftp://x"}),
        ("http.request", {"url": "https://x", "method": "TRACE"}),
        ("http.request", {"url": "https://x", "headers": {"A": "b\r\nC: d"}}),
        ("http.request", {"url": "https://x", "headers": {"A B": "c"}}),
        ("http.request", {"url": "https://x", "timeout": 0}),
        ("test.dummy", {"seconds": -1}),
        ("test.dummy", {"seconds": "1"}),
        ("test.dummy", {"result": [1]}),
        ("test.dummy", {"unknown": 1}),
    ],
)
def test_bad_params_are_refused(name: str, params: dict[str, Any]) -> None:
    assert errors(name, params)


def test_an_exit_code_is_judged_by_the_params() -> None:
    assert shell.outcome({}, 0, None) is None
    assert shell.outcome({"success_codes": [0, 3]}, 3, None) is None
    assert shell.outcome({"success_codes": [3]}, 0, None) is not None
    failed = shell.outcome({}, 2, None)
    assert failed is not None
    assert (failed["code"], failed["detail"]) == ("exit_code", {"exit_code": 2})
    killed = shell.outcome({}, None, "SIGSEGV")
    assert killed is not None
    assert (killed["code"], killed["detail"]) == ("signal", {"signal": "SIGSEGV"})


def test_a_broken_package_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "from switchyard import handler\n"
    (tmp_path / "raises.py").write_text(
        head + "@handler('raises.x')\ndef f(run, params): ...\nraise SystemExit('no')"
    )
    (tmp_path / "named.py").write_text(head + "@handler('Bad Name')\ndef f(run, params): ...\n")
    (tmp_path / "remote.py").write_text(
        head
        + "@handler('remote.ref', params={'type': 'object', '$ref': 'http://x/y'})\ndef f(run, params): ...\n"
    )
    (tmp_path / "good.py").write_text(
        head + "@handler('good.one')\ndef f(run, params):\n    'Does good.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    offered = [
        EntryPoint(each, each, GROUP) for each in ("raises", "named", "remote", "good", "missing")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(offered).select(group=group))
    loaded = load()
    assert set(loaded.types) == {"shell.command", "http.request", "good.one"}
    assert loaded.types["good.one"].entry == "good:f"
    assert len(loaded.problems) == 4
    for name in ("raises", "named", "remote", "good"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"type": "object", "enum": list(range(20000))},
    ],
)
def test_an_unusable_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(HandlerDefinitionError):
        check_schema(schema)
