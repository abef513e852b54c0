"""The peers' own environment, and one measurement of one of them in it.

`.venv-bench` holds exactly what ``bench/requirements.txt`` locks: the peers' packages, beside ours and
never in ours, so that they cannot move a version that the platform runs with.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.servers import ROOT
from ops.install import index_settings

VENV = ROOT / ".venv-bench"
LOCK = ROOT / "bench" / "requirements.txt"
SECONDS = 600
# Beside RQ and stock Celery with a child per task: two that isolate nothing, and the floor; see drive.
OTHERS = ("celery-kept", "procrastinate", "floor")
# Of the broker's Valkey a database that the platform does not use.
REDIS_DATABASE = 9


@dataclass(frozen=True)
class Measured:
    """What one peer did: jobs a second, and CPU milliseconds per job of workers and children."""

    rate: float
    cpu_ms: float


def measure(kind: str, *, slots: int, jobs: int, redis_url: str, database_url: str) -> Measured:
    """Measure one peer once (see :mod:`bench.peers.drive`) on these servers."""
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # Celery warns of root, which a benchmark's worker may be.
            "PYTHONWARNINGS": "ignore",
            "PEER_REDIS": urlunsplit(urlsplit(redis_url)._replace(path=f"/{REDIS_DATABASE}")),
            "PEER_DATABASE": database_url,
            "PEER_JOURNAL": str(Path(folder) / "journal"),
        }
        done = subprocess.run(
            [
                *(str(python()), "-m", "bench.peers.drive", kind),
                *("--slots", str(slots), "--jobs", str(jobs)),
            ],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            timeout=SECONDS,
        )
    if done.returncode:
        raise RuntimeError(f"{kind} could not be measured:\n{done.stderr.decode(errors='replace')}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


@cache
def python() -> Path:
    """Return the Python of the peers, after making its environment if it is not as locked."""
    stamp, wanted = VENV / ".installed", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    found = VENV / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return found
    uv = str(Path(sys.prefix) / "bin" / "uv")
    environment = {**index_settings(dict(os.environ)), "UV_LINK_MODE": "copy", **os.environ}
    made = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)]
    install = [uv, "pip", "install", "--quiet", "--python", str(found)]
    for line in (made, [*install, "--require-hashes", "-r", str(LOCK)]):
        subprocess.run(line, env=environment, cwd=ROOT, timeout=SECONDS, check=True)
    stamp.write_text(wanted)
    return found
