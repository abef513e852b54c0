"""Sandboxes for tests: one call that starts a handler, waits, and gives all it said."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.sandbox.running import Finished, read_all
from workers.sandbox import (
    Launch,
    Level,
    Sandboxed,
    detect,
    make_workspace,
    spawn,
    wipe_workspace,
)
from workers.sandbox.handler_server import close_servers, start_servers, start_wall_server

HERE = Path(__file__).parent
AVAILABLE = detect()


@pytest.fixture(params=[*Level, *(f"{level}-served" for level in Level)])
def level(request: pytest.FixtureRequest) -> Iterator[Level]:
    """Each isolation level that works on this machine, with and without servers that fork handlers."""
    name, _, served = str(request.param).partition("-")
    chosen = Level(name)
    if not AVAILABLE.available[chosen]:
        pytest.skip(f"level {chosen} does not work here: {AVAILABLE.reasons[chosen]}")
    if served and chosen is Level.FULL:
        start_wall_server()
    elif served:
        modules = ["hostile", *(f"workers.handlers.{each}" for each in ("dummy", "shell", "http"))]
        start_servers(modules, [str(HERE)])
    yield chosen
    close_servers()


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder for workspaces that is empty again at the end."""
    with tempfile.TemporaryDirectory(prefix="switchyard-test-") as folder:
        yield Path(folder)


@pytest.fixture
def start(base: Path) -> Iterator[Callable[..., Sandboxed]]:
    """Start a handler of `hostile.py` (or any other by its full name), or a program."""
    started: list[tuple[Sandboxed, Path]] = []

    def begin(level: Level, handler: str = "", params: Any = None, **options: Any) -> Sandboxed:
        workspace = make_workspace(base, f"run-{len(started)}")
        job = {
            "handler": handler if ":" in handler else f"hostile:{handler}",
            "params": params or {},
            "attempt": 1,
            "python_path": [str(HERE)],
            **options.pop("job", {}),
        }
        target = {"argv": options.pop("argv")} if "argv" in options else {"job": job}
        sandboxed = spawn(
            Launch(level=level, workspace=workspace, extra_read_only=(HERE,), **target, **options)
        )
        started.append((sandboxed, workspace))
        return sandboxed

    yield begin
    for sandboxed, workspace in started:
        sandboxed.close()
        wipe_workspace(workspace)


@pytest.fixture
def run(start: Callable[..., Sandboxed]) -> Callable[..., Finished]:
    """Start, read everything, wait."""

    def finish(*arguments: Any, **options: Any) -> Finished:
        sandboxed = start(*arguments, **options)
        out, err, messages = read_all(sandboxed)
        lines = [json.loads(line) for line in messages.splitlines()]
        return Finished(sandboxed.wait(10), out.decode(), err.decode(), lines)

    return finish
