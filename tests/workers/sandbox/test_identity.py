# ruff: noqa: E501 - one case a line reads best
"""Users: workers give root up, handlers get a number of their own, files follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workers.sandbox import HandlerIdentity, acquire_identity, acting_as
from workers.sandbox.identity import FIRST_UID

ROOT = Path(__file__).parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be started as root")

PREAMBLE = (
    "import json, os, sys; from pathlib import Path; from workers.sandbox import *\n"
    "from workers.sandbox.identity import may_become_others\n"
    "from tests.workers.sandbox.dropping import drop_as_a_worker_does\n"
    "drop_as_a_worker_does()\n"
)


def script(text: str) -> object:
    """Run a few lines as a worker that was started as root, and give back the JSON it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/platform"}
    command = [sys.executable, "-c", PREAMBLE + text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@as_root
def test_a_worker_gives_root_up_and_keeps_three_capabilities() -> None:
    text = (
        "status = Path('/proc/self/status').read_text().split('\\n')\n"
        "def refused(path):\n"
        "    try: open(path); return False\n"
        "    except PermissionError: return True\n"
        "print(json.dumps({'uid': os.getresuid(), 'caps': sorted(l.split()[1] for l in status if l[:6] in"
        " ('CapEff', 'CapPrm', 'CapBnd')), 'shadow': refused('/etc/shadow'), 'others': may_become_others()}))"
    )
    answer = script(text)
    assert answer == {
        "uid": [65534] * 3,
        "caps": ["00000000000000e0"] * 3,
        "shadow": True,
        "others": True,
    }


@as_root
@pytest.mark.parametrize("level", ["full", "container", "process"])
def test_a_handler_runs_as_its_own_user_without_any_capability(level: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        text = (
            "from workers.sandbox.workspace import work_folder\n"
            f"base = Path({folder!r}); who = acquire_identity(base)\n"
            "become_subreaper(); harden_self()\n"
            "w = make_workspace(base, 'w', who)\n"
            "argv = ('/bin/sh', '-c', 'touch made; cat /proc/$$/status; sleep 60')\n"
            f"s = spawn(Launch(level=Level({level!r}), workspace=w, argv=argv, identity=who))\n"
            "import select; select.select([s.stdout, s.stderr], [], [], 10)\n"
            "said = os.read(s.stdout, 65536).decode().split() if s.level != 'container' else []\n"
            "s.terminate(); end = s.wait(10)\n"
            "made = acting_as(who, lambda: (work_folder(w) / 'made').stat().st_uid)\n"
            "private = not os.access(w, os.R_OK)\n"
            "s.close(); wipe_workspace(w, who)\n"
            "print(json.dumps({'said': said, 'made': made, 'who': who.uid, 'private': private, 'end': end.signal or end.code,"
            " 'left': sorted(os.listdir(base))}))"
        )
        answer = script(text)
    assert isinstance(answer, dict)
    assert answer["made"] == answer["who"] >= FIRST_UID
    assert answer["private"]
    if level != "container":  # which does not show /proc to programs
        sets = ("Prm", "Eff", "Amb", *(["Bnd"] if level == "full" else []))
        held = [answer["said"][answer["said"].index(f"Cap{each}:") + 1] for each in sets]
        assert {int(each, 16) for each in held} == {0}
        assert answer["said"][answer["said"].index("NoNewPrivs:") + 1] == "1"
    assert answer["end"] in ("SIGTERM", 143)
    assert answer["left"] == [f"uid-{answer['who']}.lock"]


def test_no_two_workers_take_the_same_user(tmp_path: Path) -> None:
    mine = {acquire_identity(tmp_path).uid for _ in range(3)}
    assert mine == {FIRST_UID, FIRST_UID + 1, FIRST_UID + 2}
    code = (
        "from pathlib import Path; from workers.sandbox import acquire_identity\n"
        f"print(acquire_identity(Path({str(tmp_path)!r})).uid)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/platform"}
    for _ in range(2):  # the first gives its user back by ending
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert int(done.stdout) == FIRST_UID + 3
    with pytest.raises(RuntimeError):
        acquire_identity(tmp_path, count=2)


@as_root
def test_acting_as_another_changes_one_thread_only(base: Path) -> None:
    base.chmod(0o777)
    acting_as(HandlerIdentity(61200, 61200), lambda: (base / "theirs").touch())
    (base / "ours").touch()
    assert (base / "theirs").stat().st_uid == 61200
    assert (base / "ours").stat().st_uid == 0


def test_an_error_in_the_action_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        acting_as(HandlerIdentity(os.geteuid(), os.getegid()), lambda: 1 // 0)
