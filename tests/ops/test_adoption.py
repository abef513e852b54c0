"""`kill -9` of a worker's main process: its machine's manager ends all that its runs have started."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.sandbox import Level, detect

AVAILABLE = detect()

# What a handler starts that does not want to be found: neither child, nor session, nor signal is left.
DAEMON = """
import os, signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    time.sleep(60)
os.setsid()
if os.fork():
    os._exit(0)
open("daemon", "w").close()
time.sleep(60)
"""
# Worker and supervisor as Celery's pool has them: the child dies with its parent, and adopts orphans.
WORKER = """
import ctypes, os, signal, sys, time
from pathlib import Path
from workers.sandbox import Launch, Level, become_subreaper, make_workspace, spawn
folder, level, daemon = Path(sys.argv[1]), Level(sys.argv[2]), sys.argv[3]
if not (folder / "run").exists() and os.fork() == 0:
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    become_subreaper()
    workspace = make_workspace(folder, "run")
    with spawn(Launch(level=level, workspace=workspace, argv=("python3", "-c", daemon))) as sandboxed:
        sandboxed.wait()
time.sleep(60)
"""
MANAGER = """
import os, signal, sys
from pathlib import Path
from ops.supervision.processes import descendants
from ops.supervision.programs import Program
from ops.supervision.watch import Watch
from tests.processes import lives

def ignores_sigterm(pid):
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1

folder = Path(sys.argv[1])
worker = Program(name="worker", argv=(sys.executable, "-c", *sys.argv[2:]), log=None,
                 environment=dict(os.environ), directory=Path.cwd())
with Watch(lambda text: None) as watch:
    main = watch.add(worker)
    assert watch.until((folder / "run" / "work" / "daemon").exists, seconds=20)
    below = descendants(os.getpid())
    deaf = list(filter(ignores_sigterm, below))
    os.kill(main.pid, signal.SIGKILL)
    gone = watch.until(lambda: not any(map(lives, below)), seconds=2)
    print(len(deaf), gone)
    watch.stop()
    watch.end_strays()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that handlers may enter."""
    with tempfile.TemporaryDirectory(prefix="switchyard-adoption-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("level", Level)
def test_no_daemon_of_a_handler_outlives_its_worker(level: Level, folder: Path) -> None:
    if not AVAILABLE.available[level]:
        pytest.skip(f"level {level} does not work here: {AVAILABLE.reasons[level]}")
    done = subprocess.run(
        [sys.executable, "-c", MANAGER, str(folder), WORKER, str(folder), level.value, DAEMON],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    daemons, gone = done.stdout.split()
    assert int(daemons) >= 1
    assert gone == "True", "something outlived kill -9 of the main worker by two seconds"
