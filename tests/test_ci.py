"""What .ci/run does to the machine that it runs on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Eventually

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the script, which keeps its policy here instead of in /usr/sbin."""
    (tmp_path / ".ci").mkdir()
    text = (ROOT / ".ci" / "run").read_text()
    assert text.count("/usr/sbin/policy-rc.d") == 1
    # Nor does it find there what this machine has installed.
    text = text.replace("/usr/sbin/policy-rc.d", str(tmp_path / "policy-rc.d"))
    (tmp_path / ".ci" / "run").write_text(text.replace('PATH="$PATH:/usr/sbin"', 'PATH="$PATH"'))
    return tmp_path


def started(checkout: Path, apt: str) -> subprocess.Popen[str]:
    """Run it as root where neither package is installed, with this apt-get and an idle make."""
    tools = checkout / "bin"
    tools.mkdir()
    for name, body in {"apt-get": apt, "make": "exit 0", "id": "echo 0"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    for name in ("bash", "dirname", "chmod", "rm", "touch", "sleep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    return subprocess.Popen(
        [str(tools / "bash"), str(checkout / ".ci" / "run")],
        env={"PATH": str(tools), "FOLDER": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_installation_leaves_no_policy_behind(
    checkout: Path, eventually: Eventually, number: signal.Signals
) -> None:
    process = started(checkout, 'touch "$FOLDER/asked"; exec sleep 60')
    eventually((checkout / "asked").exists)
    assert (checkout / "policy-rc.d").exists()
    # As a terminal does, or a runner: to all of them.
    os.killpg(process.pid, number)
    told, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert not (checkout / "policy-rc.d").exists(), told


def test_a_policy_of_the_machines_own_stays(checkout: Path) -> None:
    (checkout / "policy-rc.d").write_text("its own")
    process = started(checkout, "exit 0")
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (checkout / "policy-rc.d").read_text() == "its own"


def test_the_policy_goes_with_the_installation(checkout: Path) -> None:
    process = started(checkout, '[ -x "$FOLDER/policy-rc.d" ] && touch "$FOLDER/asked"')
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (checkout / "asked").exists()
    assert not (checkout / "policy-rc.d").exists()
