"""Bytes to lines: whatever a handler writes, what is stored is numbered, capped and readable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.protocol import Progress, Result
from workers.supervisor.output import LINE_CAP, MASK, MASKED_CHARACTERS, MASKED_VALUES, Output

AT = datetime(2026, 1, 1, tzinfo=UTC)


def stored(output: Output) -> list[tuple[str, int, str]]:
    return [
        (chunk.stream, chunk.first_line + offset, text)
        for chunk in output.take()
        for offset, text in enumerate(chunk.lines)
    ]


def test_lines_are_numbered_over_both_streams_in_the_order_of_reading() -> None:
    output = Output(cap=1000)
    output.feed("stdout", b"one\ntw", AT)
    output.feed("stderr", b"oops\n", AT)
    output.feed("stdout", b"o\n", AT)
    assert stored(output) == [("stdout", 1, "one"), ("stderr", 2, "oops"), ("stdout", 3, "two")]


def test_a_last_line_without_an_end_is_kept() -> None:
    output = Output(cap=1000)
    output.feed("stdout", b"no newline", AT)
    assert stored(output) == []
    output.close(AT)
    assert stored(output) == [("stdout", 1, "no newline")]


def test_the_times_of_lines_are_kept_to_the_millisecond() -> None:
    output = Output(cap=1000)
    output.feed("stdout", b"a\n", AT)
    output.feed("stdout", b"b\n", AT + timedelta(milliseconds=250))
    (chunk,) = output.take()
    assert (chunk.at, chunk.offsets) == (AT, (0, 250))


def test_a_flood_is_cut_and_says_so_once() -> None:
    output = Output(cap=1000)
    for _ in range(50):
        output.feed("stdout", b"x" * 99 + b"\n", AT)
    lines = stored(output)
    assert output.truncated
    assert [stream for stream, _, _ in lines].count("system") == 1
    assert lines[-1][2] == "Output cut: this run may write 1,000 bytes."
    assert sum(len(text) for _, _, text in lines) < 1200


def test_a_line_that_never_ends_is_stored_in_pieces() -> None:
    output = Output(cap=10**9)
    for _ in range(5):
        output.feed("stdout", b"y" * LINE_CAP, AT)
    assert [len(text) for _, _, text in stored(output)] == [LINE_CAP] * 5


def test_what_is_no_text_is_made_readable() -> None:
    output = Output(cap=1000)
    output.feed("stdout", b"\xff\xfe bytes\r\n", AT)
    assert stored(output) == [("stdout", 1, "�� bytes")]


def test_steering_lines_are_obeyed_and_not_shown() -> None:
    output = Output(cap=1000, steered=True)
    asked = output.feed("stdout", b'::progress 40 linting\nhello\n::result {"n": 1}\n', AT)
    assert asked == [Progress(40, "linting"), Result({"n": 1})]
    assert stored(output) == [("stdout", 1, "hello")]


def test_only_stdout_of_a_steering_type_steers() -> None:
    for output, stream in ((Output(cap=1000), "stdout"), (Output(cap=1000, steered=True), "stderr")):
        assert output.feed(stream, b"::progress 40 linting\n", AT) == []
        assert stored(output) == [(stream, 1, "::progress 40 linting")]


def test_a_masked_value_is_dots_from_then_on() -> None:
    output = Output(cap=1000, steered=True)
    output.feed("stdout", b"::mask hunter2\nthe password is hunter2\n", AT)
    assert stored(output) == [("stdout", 1, f"the password is {MASK}")]


@pytest.mark.parametrize(
    ("count", "length"), [(MASKED_VALUES + 1, 20), (8, MASKED_CHARACTERS // 8 + 1), (100_000, 600)]
)
def test_more_values_than_may_be_masked_end_the_output(count: int, length: int) -> None:
    output = Output(cap=10**9, steered=True)
    output.feed("stdout", b"before\n", AT)
    for number in range(count):
        output.feed("stdout", f"::mask {number:0{length}}\n".encode(), AT)
    output.feed("stdout", f"{count - 1:0{length}} would be stored as it is\n".encode(), AT)
    assert output.refused
    assert [line for chunk in output.take() for line in chunk.lines] == ["before"]
    assert sum(map(len, output._masked)) <= MASKED_CHARACTERS


def test_as_many_values_as_may_be_are_masked() -> None:
    output = Output(cap=10**9, steered=True)
    values = [f"secret-{number:05}" for number in range(MASKED_VALUES)]
    for value in values:
        output.feed("stdout", f"::mask {value}\n::mask {value}\n".encode(), AT)
    output.feed("stdout", f"{values[0]} {values[-1]}\n".encode(), AT)
    assert not output.refused
    assert [line for chunk in output.take() for line in chunk.lines] == [f"{MASK} {MASK}"]


def test_past_the_cap_a_command_may_still_tell_its_result() -> None:
    output = Output(cap=10, steered=True)
    output.feed("stdout", b"z" * 50 + b"\n", AT)
    assert output.feed("stdout", b'more\n::result {"n": 2}\n', AT) == [Result({"n": 2})]


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_however_the_bytes_are_cut_the_lines_are_the_same(pieces: list[bytes]) -> None:
    whole, cut = Output(cap=10**6), Output(cap=10**6)
    whole.feed("stdout", b"".join(pieces), AT)
    whole.close(AT)
    for piece in pieces:
        cut.feed("stdout", piece, AT)
    cut.close(AT)
    assert stored(whole) == stored(cut)
