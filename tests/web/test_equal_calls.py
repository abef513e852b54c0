"""The commands on the pages are what a shell would need to send the same request."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise

from switchyard.cli.values import params_of
from web.equal_calls import command_submit, curl_submit

EVIL = 'it\'s; $(reboot) `id` "x" \n{1}'


def test_the_curl_call_carries_the_body_through_a_shell_unchanged() -> None:
    body = {"type": "shell.command", "params": {"command": ["echo", EVIL]}}
    words = shlex.split(curl_submit("https://yard.example", "acme", body).replace("\\\n", " "))
    assert words[2] == "https://yard.example/api/v1/tenants/acme/tasks"
    assert json.loads(words[words.index("-d") + 1]) == body


def test_the_command_ends_with_the_words_of_a_shell_command() -> None:
    body = {"type": "shell.command", "queue": "critical", "params": {"command": ["echo", EVIL]}}
    assert shlex.split(command_submit(body) or "") == [
        *("switchyard", "run", "shell.command", "--queue=critical", "--", "echo", EVIL)
    ]


def test_params_survive_the_way_through_the_command() -> None:
    params = {"a": "text", "b": "7", "c": 7, "d": {"x": [1, None]}, "e": "", "f": EVIL, "g": "true"}
    words = shlex.split(command_submit({"type": "t", "params": params}) or "")
    pairs = [word for before, word in pairwise(words) if before == "-p"]
    assert params_of(pairs, None) == params


def test_options_and_labels_are_flags_also_where_they_begin_with_a_hyphen() -> None:
    body = {"type": "t", "params": {}, "priority": -5, "key": "-k", "labels": {"pr": "1 2"}}
    words = shlex.split(command_submit(body) or "")
    assert words[3:] == ["--priority=-5", "--key=-k", "--label=pr=1 2"]


def test_there_is_no_command_for_names_that_it_cannot_write() -> None:
    assert command_submit({"type": "t", "params": {"a.b": 1}}) is None
    assert command_submit({"type": "t", "params": {}, "labels": {"a=b": "c"}}) is None
