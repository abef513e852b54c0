"""A checkpoint has a cap: the handler hears of it, and a hostile one cannot get past it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from switchyard import RunContext, TaskError
from switchyard.errors import CHECKPOINT_CAP, ProtocolError
from switchyard.protocol import Checkpoint, parse_message


class Heard:
    """A channel that remembers what was said."""

    control, heard = -1, b""

    def __init__(self) -> None:
        self.said: list[Mapping[str, Any]] = []

    def emit(self, message: Mapping[str, Any]) -> None:
        self.said.append(message)


def test_a_checkpoint_at_the_cap_is_kept_and_one_above_it_is_the_handlers_error() -> None:
    channel = Heard()
    run = RunContext({"workspace": "/"}, channel)
    fits = "x" * (CHECKPOINT_CAP - 2)
    run.checkpoint(fits)
    line = json.dumps(channel.said[0], separators=(",", ":")).encode()
    assert parse_message(line) == Checkpoint(fits)
    with pytest.raises(TaskError, match="262,144 bytes") as refused:
        run.checkpoint(fits + "x")
    assert (refused.value.code, refused.value.retry) == ("checkpoint_too_large", False)
    assert len(channel.said) == 1


def test_the_supervisor_takes_no_larger_one_from_anybody() -> None:
    line = json.dumps({"op": "checkpoint", "data": "x" * (CHECKPOINT_CAP + 100)}).encode()
    with pytest.raises(ProtocolError, match="262,144"):
        parse_message(line)
