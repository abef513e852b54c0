"""Sets the scene for the hostile handler and reports what it got, as JSON on stdout.

    python -m tests.security.stage full|container|process [own-user]

Started as root it drops to an ordinary user first, as workers do. The scene: a supervisor with a
secret in its memory and environment, a second run of the same level with a secret of its own, a third
that is a program, and files and sockets as a platform has them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.workers.sandbox.dropping import NOBODY, drop_as_a_worker_does
from workers.sandbox import (
    HandlerIdentity,
    Launch,
    Level,
    Limits,
    Sandboxed,
    acting_as,
    become_subreaper,
    harden_self,
    make_workspace,
    spawn,
    wipe_workspace,
)
from workers.sandbox.handler_server import start_servers, start_wall_server
from workers.sandbox.identity import FIRST_UID
from workers.sandbox.tree import descendants, processes

SECRET = "hunter2-" + "x" * 24
HERE = Path(__file__).parent
MIB = 1024 * 1024
OWN_USER = "own-user"


def stage(level: Level, own_user: bool) -> dict[str, str]:
    """Run the attack at one level; {probe: outcome}."""
    base = Path(tempfile.mkdtemp(prefix="switchyard-stage-"))
    base.chmod(0o1777)
    try:
        if os.geteuid() == 0:
            os.chown(base, NOBODY, NOBODY)  # or nobody could remove it again
            drop_as_a_worker_does(keep_setuid=own_user)
        harden_self()
        become_subreaper()
        # As a worker has them.
        if level is Level.FULL:
            start_wall_server()
        else:
            start_servers(["attack", "workers.handlers.dummy", "workers.handlers.shell"], [str(HERE)])
        return _attack(level, own_user, base) | _daemons(level, own_user, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _attack(level: Level, own_user: bool, base: Path) -> dict[str, str]:
    os.environ["SUPERVISOR_SECRET"] = SECRET
    users = [HandlerIdentity(FIRST_UID + 4000 + each, FIRST_UID + 4000 + each) for each in range(3)]
    who: list[HandlerIdentity | None] = list(users) if own_user else [None] * 3
    listener = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    datagrams.settimeout(0.2)
    path_socket, name_socket = (socket.socket(socket.AF_UNIX) for _ in range(2))
    path_socket.bind(str(base / "socket"))
    (base / "socket").chmod(0o777)
    name = f"switchyard-stage-{os.getpid()}"
    name_socket.bind("\0" + name)
    path_socket.listen()
    name_socket.listen()
    settings, temporary = base / "settings", base / "in-tmp"
    shared = Path("/dev/shm") / name
    for path, mode in ((settings, 0o600), (temporary, 0o644), (shared, 0o644)):
        path.write_text(SECRET)
        path.chmod(mode)
    others = [make_workspace(base, f"other-{each}", who[each]) for each in (0, 1)]
    sibling = spawn(_launch(level, others[0], who[0], "workers.handlers.dummy:behave", {"seconds": 60}))
    command = spawn(
        _launch(
            level, others[1], who[1], "workers.handlers.shell:run_command", {"command": ["sleep", "60"]}
        )
    )
    mine = make_workspace(base, "mine", who[2])
    _until(lambda: b"sleep" in Path(f"/proc/{_inner(command)}/cmdline").read_bytes())
    targets = {
        "secret_backwards": SECRET[::-1],
        "supervisor": os.getpid(),
        "sibling": _inner(sibling),
        "command": _inner(command),
        "tcp_port": listener.getsockname()[1],
        "udp_port": datagrams.getsockname()[1],
        "unix_path": str(base / "socket"),
        "unix_name": name,
        "settings_file": str(settings),
        "other_file": _foreign_file(others[0], who[0]),
        "other_folder": str(others[0] / "work"),
        "tmp_file": str(temporary),
        "shared_memory": name,
    }
    try:
        with spawn(_launch(level, mine, who[2], "attack:attack", targets)) as attacker:
            results = _result(attacker)
    finally:
        sibling.close()
        command.close()
        for each, owner in ((others[0], who[0]), (others[1], who[1]), (mine, who[2])):
            wipe_workspace(each, owner)
        shared.unlink()
    udp = "UDP to a service on this machine"
    if results[udp] == "sent":
        results[udp] = "open" if _received(datagrams) else "sent, never arrives"
    return results


def _launch(
    level: Level, workspace: Path, who: HandlerIdentity | None, entry: str, params: dict[str, Any]
) -> Launch:
    return Launch(
        level=level,
        workspace=workspace,
        identity=who,
        job={
            "handler": entry,
            "params": params,
            "secrets": {"TOKEN": SECRET} if entry.startswith("workers.") else {},
            "attempt": 1,
            "python_path": [str(HERE)],
        },
        extra_read_only=(HERE,),
        limits=Limits(memory_bytes=256 * MIB, file_bytes=16 * MIB, processes=32),
    )


def _daemons(level: Level, own_user: bool, base: Path) -> dict[str, str]:
    """A double-forked daemon, after the end of its run and after kill -9 of its supervisor."""
    who = HandlerIdentity(FIRST_UID + 4010, FIRST_UID + 4010) if own_user else None
    ended = make_workspace(base, "ended", who)
    with spawn(_launch(level, ended, who, "attack:daemon", {})) as sandboxed:
        sandboxed.wait(20)
    after_end = _beats_on(ended, who)
    lost = make_workspace(base, "lost", who)
    read, write = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        become_subreaper()
        sandboxed = spawn(_launch(level, lost, who, "attack:daemon", {"seconds": 60}))
        _until(lambda: _read(sandboxed.stdout) != b"")
        os.write(write, b"!")
        signal.pause()
    os.read(read, 1)
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    after_loss = _beats_on(lost, who)
    for pid in _children():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    wipe_workspace(ended, who)
    wipe_workspace(lost, who)
    return {
        "a daemon after the end of its run": "lives" if after_end else "dead",
        "a daemon after kill -9 of the supervisor": "lives" if after_loss else "dead",
    }


def _beats_on(workspace: Path, who: HandlerIdentity | None) -> bool:
    """Whether the daemon still writes: within a second it would have, fifty times."""
    file = workspace / "work" / "beats"

    def size() -> int:
        return file.stat().st_size if file.exists() else 0

    deadline = time.monotonic() + 1
    last, still_since = acting_as(who, size), time.monotonic()
    while time.monotonic() < deadline:
        now = acting_as(who, size)
        if now != last:
            last, still_since = now, time.monotonic()
        time.sleep(0.02)
    return time.monotonic() - still_since < 0.3


def _inner(sandboxed: Sandboxed) -> int:
    """The pid of the handler itself, as the machine sees it: the last of the launcher's line."""
    below = descendants(sandboxed.pid)
    return below[-1].pid if below else sandboxed.pid


def _foreign_file(workspace: Path, who: HandlerIdentity | None) -> str:
    path = workspace / "work" / "private"
    acting_as(who, lambda: path.write_text(SECRET))
    return str(path)


def _children() -> list[int]:
    return [each.pid for each in processes().values() if each.parent == os.getpid()]


def _received(datagrams: socket.socket) -> bool:
    try:
        return datagrams.recv(16) == b"attack"
    except TimeoutError:
        return False


def _result(sandboxed: Sandboxed) -> dict[str, str]:
    ending = sandboxed.wait(60)
    for line in _read(sandboxed.messages).splitlines():
        message = json.loads(line)
        if message["op"] == "result":
            return dict(message["data"])
    raise RuntimeError(f"{ending}: {_read(sandboxed.stderr).decode()}")


def _read(descriptor: int) -> bytes:
    data = b""
    try:
        while more := os.read(descriptor, 1 << 16):
            data += more
    except BlockingIOError:
        return data
    return data


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The scene could not be set.")
        time.sleep(0.005)


if __name__ == "__main__":
    print(json.dumps(stage(Level(sys.argv[1]), OWN_USER in sys.argv[2:])))
