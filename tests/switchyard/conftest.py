"""The contract server, a client of it, and the command run as people and CI run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from switchyard.client import Client
from tests.switchyard.contract_server import TENANT, TOKEN, ContractServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[ContractServer]:
    running = ContractServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server: ContractServer) -> Iterator[Client]:
    with Client(server.url, TOKEN, TENANT) as made:
        yield made


@pytest.fixture
def environment(server: ContractServer, tmp_path: Path) -> dict[str, str]:
    """What a process of the command sees: the server's address, nothing of this machine's user."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "platform"),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "SWITCHYARD_URL": server.url,
        "SWITCHYARD_TOKEN": TOKEN,
        "SWITCHYARD_TENANT": TENANT,
    }


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Command:
    """Run `switchyard …` to its end in a process of its own, with pipes."""

    def run(*argv: str, **changes: str) -> subprocess.CompletedProcess[str]:
        extra = {name: value for name, value in changes.items() if name.isupper()}
        return subprocess.run(
            [*COMMAND, *argv],
            env={**environment, **extra},
            cwd=tmp_path,
            input=changes.get("stdin", ""),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


COMMAND = (sys.executable, "-c", "import sys; from switchyard.cli.main import main; sys.exit(main())")
