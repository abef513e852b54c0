"""What a person sees: the command on a real (pseudo) terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from switchyard.cli.text import log_line, printable
from tests.switchyard.conftest import COMMAND
from tests.switchyard.contract_server import ContractServer, until

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Terminal:
    """A process with a terminal of its own; what it wrote so far is `seen`."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            self._read(0.1)

    def end(self) -> int:
        deadline = time.monotonic() + 15
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            self._read(0.05)
        while self._read(0.05):
            pass
        return int(self.process.returncode)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, roughly: escapes removed, erased lines gone."""
        text = re.sub(r"[^\n]*\r\x1b\[2K", "", self.seen.replace("\r\n", "\n"))
        return _ESCAPE.sub("", text).split("\n")

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@contextmanager
def terminal(environment: dict[str, str], *argv: str, **more: str) -> Iterator[Terminal]:
    """Start the command in a terminal; whatever happens, it is gone afterwards."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*COMMAND, *argv],
        env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", **more},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=own_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def running(server: ContractServer) -> ContractServer:
    """A server on which a submitted task starts and prints a line; a cancel ends it."""

    def work(name: str) -> None:
        server.run(name)
        server.lines(name, "started")

    server.on_submit = work
    server.on_cancel = lambda name: server.end(name, "cancelled")
    return server


RUN = ("run", "shell.command", "--", "true")


def test_ctrl_c_asks_and_cancels(running: ContractServer, environment: dict[str, str]) -> None:
    with terminal(environment, *RUN) as screen:
        screen.wait_for("started")
        screen.press("\x03")
        screen.wait_for("go on [f]ollowing?")
        screen.press("c\n")
        assert screen.end() == 16
    assert "cancelled" in screen.seen


def test_ctrl_c_asks_and_goes_on(running: ContractServer, environment: dict[str, str]) -> None:
    with terminal(environment, *RUN) as screen:
        screen.wait_for("started")
        screen.press("\x03")
        screen.wait_for("go on [f]ollowing?")
        (name,) = running.tasks
        running.lines(name, "said while you thought")
        screen.press("f\n")
        screen.wait_for("said while you thought")
        running.end(name)
        assert screen.end() == 0
    assert screen.seen.count("started") == 1


def test_a_second_ctrl_c_leaves_the_task_running(
    running: ContractServer, environment: dict[str, str]
) -> None:
    with terminal(environment, *RUN) as screen:
        screen.wait_for("started")
        screen.press("\x03")
        screen.wait_for("go on [f]ollowing?")
        screen.press("\x03")
        assert screen.end() == 8
    assert "switchyard tasks logs" in screen.seen
    assert not any(path.endswith("/cancel") for _, path, _ in running.requests)


def test_progress_is_one_line_that_moves_and_goes_away(
    running: ContractServer, environment: dict[str, str]
) -> None:
    with terminal(environment, *RUN) as screen:
        screen.wait_for("started")
        (name,) = running.tasks
        step = "linting a file with a very long name " * 5 + "\x1b[2J"
        running.say(name, "progress", {"percent": 40, "step": step}, 1)
        screen.wait_for("40%")
        running.lines(name, "below it")
        screen.wait_for("below it")
        running.end(name)
        assert screen.end() == 0
    assert "\x1b[2J" not in screen.seen
    assert not any("40%" in line for line in screen.lines)
    widest = max(len(_ESCAPE.sub("", part)) for part in re.split(r"[\r\n]", screen.seen))
    assert widest <= 80


def test_a_terminal_gets_colour_from_the_task_and_nothing_else(
    running: ContractServer, environment: dict[str, str]
) -> None:
    line = "\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07 and \x9b5Hplain\x08"
    for more, wanted in (({}, "\x1b[31mred\x1b[0m and plain"), ({"NO_COLOR": "1"}, "red and plain")):
        running.tasks.clear()
        with terminal(environment, *RUN, **more) as screen:
            screen.wait_for("started")
            (name,) = running.tasks
            running.lines(name, line)
            running.end(name)
            assert screen.end() == 0
        assert wanted in screen.seen
        assert "title" not in screen.seen
        assert "\x1b[2J" not in screen.seen


def test_no_color_means_no_colour_at_all(running: ContractServer, environment: dict[str, str]) -> None:
    running.task(status="failed")
    with terminal(environment, "tasks", "list", NO_COLOR="1") as screen:
        assert screen.end() == 0
    assert "failed" in screen.seen
    assert not re.search(r"\x1b\[3[0-9]", screen.seen)


@pytest.mark.parametrize("argv", [("list",), ("show",), ("events",)])
def test_tables_and_records_fit_80_columns(
    server: ContractServer, environment: dict[str, str], argv: tuple[str, ...]
) -> None:
    name = server.task(type="a.task.type.with.a.very.long.name.indeed", queue="critical")
    until(lambda: name in server.tasks, "made")
    given = argv if argv == ("list",) else (*argv, name)
    with terminal(environment, "tasks", *given) as screen:
        assert screen.end() == 0
    assert argv == ("events",) or name in screen.seen
    assert max(len(line.rstrip()) for line in screen.lines) <= 80


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 漢字", "plain ä 漢字"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\x00", "a\\x0ab\\x09c\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_text_of_others_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mbold\x1b[m", "\x1b[1;31mbold\x1b[m\x1b[0m"),
        ("10%\r50%\r100%", "100%"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("unfinished \x1b[", "unfinished "),
        ("unfinished \x1b]0;title", "unfinished "),
        ("\x1bPq#0\x1b\\dcs", "dcs"),
        ("\x1bcreset", "reset"),
        ("\x1b[?1049halt", "alt"),
    ],
)
def test_log_lines_keep_colour_alone(text: str, shown: str) -> None:
    assert log_line(text, colour=True) == shown
