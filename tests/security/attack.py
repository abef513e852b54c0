"""A hostile handler: tries everything that a sandbox is there to stop, and says what it got.

Each probe returns a word: "open" when it got what it wanted, otherwise the name of the error.
Standard library only: it runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from switchyard import RunContext, handler

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
OPEN = "open"


@handler("security.attack", params={"type": "object"})
def attack(run: RunContext, params: dict[str, Any]) -> dict[str, str]:
    """Run every probe against the targets in `params`; {probe: outcome}."""
    return {name: outcome(probe, params) for name, probe in PROBES.items()}


@handler("security.daemon", params={"type": "object"})
def daemon(run: RunContext, params: dict[str, Any]) -> None:
    """Leave a process behind, out of the session and orphaned, that writes to a file for ever."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for descriptor in (0, 1, 2, 3, 4):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        while True:
            with open("beats", "a") as file:
                file.write(".")
            time.sleep(0.02)
    os.wait()
    print("left", flush=True)
    run.sleep(params.get("seconds", 0))


def outcome(probe: Callable[[dict[str, Any]], str | None], params: dict[str, Any]) -> str:
    """What a probe came to, as one word."""
    try:
        return probe(params) or OPEN
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except MemoryError:
        return "MemoryError"


def checked(result: int) -> int:
    """Raise the error of a C call that failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def own_memory(params: dict[str, Any]) -> str | None:
    """Look for another run's secret in all writable memory; it is given backwards, so not by us."""
    secret = params["secret_backwards"][::-1].encode()
    with open("/proc/self/maps") as file:
        regions = [line.split() for line in file]
    found = 0
    for region in regions:
        if not region[1].startswith("rw") or (len(region) > 5 and region[5].startswith("[v")):
            continue
        start, end = (int(each, 16) for each in region[0].split("-"))
        found += ctypes.string_at(start, end - start).count(secret)
    # A few copies are our own (the text turned round, its bytes, and their garbage); a foreign heap
    # would hold it beside its name, which we never write.
    label = b"SUPERVISOR_" + b"SECRET="
    return OPEN if found > 16 or label + secret in own_environment() else "none"


def own_environment() -> bytes:
    """The environment that the kernel keeps for this process."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def descriptors(_params: dict[str, Any]) -> str | None:
    """Descriptors beyond 0 to 4 that somebody left open for us."""
    extra = []
    for number in range(5, 1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            extra.append(number)
    return f"{len(extra)} more" if extra else "none"


def environment(params: dict[str, Any]) -> str | None:
    """The supervisor's environment variables, in ours."""
    return OPEN if params["secret_backwards"][::-1] in str(os.environ) else "none"


def read_process(kind: str, who: str) -> Callable[[dict[str, Any]], str | None]:
    """Read a file of another process below /proc."""

    def probe(params: dict[str, Any]) -> str | None:
        with open(f"/proc/{params[who]}/{kind}", "rb") as file:
            if kind != "mem":
                return None if file.read(1) else "empty"
        return None

    return probe


def ptrace(params: dict[str, Any]) -> str | None:
    """Attach to a sibling."""
    checked(libc.ptrace(16, params["sibling"], 0, 0))
    libc.ptrace(17, params["sibling"], 0, 0)
    return None


def process_vm_readv(params: dict[str, Any]) -> str | None:
    """Read a sibling's memory without ptrace; a bad address would mean that we were let in."""
    buffer = ctypes.create_string_buffer(8)

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    local = Vector(ctypes.addressof(buffer), 8)
    remote = Vector(0x400000, 8)
    try:
        checked(
            libc.process_vm_readv(params["sibling"], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        )
    except OSError as error:
        if error.errno == errno.EFAULT:
            return None
        raise
    return None


def kill(who: str) -> Callable[[dict[str, Any]], str | None]:
    """Send a signal (0, which only checks) to another process."""

    def probe(params: dict[str, Any]) -> str | None:
        os.kill(params[who], 0)
        return None

    return probe


def tcp(params: dict[str, Any]) -> str | None:
    """Connect to a service of the platform on this machine."""
    socket.create_connection(("127.0.0.1", params["tcp_port"]), 2).close()
    return None


def udp(params: dict[str, Any]) -> str | None:
    """Send a datagram; the stage says whether it came."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"attack", ("127.0.0.1", params["udp_port"]))
    return "sent"


def unix(where: str) -> Callable[[dict[str, Any]], str | None]:
    """Connect to a Unix socket by path or by abstract name."""

    def probe(params: dict[str, Any]) -> str | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(params[where] if where == "unix_path" else "\0" + params[where])
        return None

    return probe


def netlink(_params: dict[str, Any]) -> str | None:
    """Open a netlink socket."""
    socket.socket(16, socket.SOCK_RAW, 0).close()
    return None


def read_file(which: str) -> Callable[[dict[str, Any]], str | None]:
    """Read a file that is none of ours."""

    def probe(params: dict[str, Any]) -> str | None:
        with open(params[which], "rb") as file:
            file.read(1)
        return None

    return probe


def write_file(folder: str) -> Callable[[dict[str, Any]], str | None]:
    """Make a file where we have no business; the folder is a path or the name of a target."""

    def probe(params: dict[str, Any]) -> str | None:
        path = os.path.join(params.get(folder, folder), f"attack-{os.getpid()}")
        with open(path, "w"):
            pass
        os.unlink(path)
        return None

    return probe


def shared_memory(params: dict[str, Any]) -> str | None:
    """Read what another run left in /dev/shm."""
    with open(f"/dev/shm/{params['shared_memory']}", "rb"):
        return None


def symlink(params: dict[str, Any]) -> str | None:
    """Read a foreign file through a link in our workspace."""
    with contextlib.suppress(FileExistsError):
        os.symlink(params["settings_file"], "link")
    with open("link", "rb"):
        return None


def written_program(_params: dict[str, Any]) -> str | None:
    """Run a program that we wrote: allowed, a workspace is there to build in."""
    with open("program", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("program", 0o700)
    subprocess.run(["./program"], check=True)
    return "allowed"


def system_call(x86: int, arm: int, *arguments: int) -> Callable[[dict[str, Any]], str | None]:
    """Make a system call that no handler needs."""

    def probe(_params: dict[str, Any]) -> str | None:
        words = [ctypes.c_long(each) for each in arguments]
        buffer = ctypes.create_string_buffer(256)
        first = words or [ctypes.c_long(1), ctypes.byref(buffer)]
        checked(libc.syscall(ctypes.c_long(x86 if X86 else arm), *first))
        return None

    return probe


def user_namespace(_params: dict[str, Any]) -> str | None:
    """Become root of a new user namespace, where much more of the kernel can be reached."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.unshare(0x10000000) == 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code == 0 else errno.errorcode.get(code, str(code))


def allocate(_params: dict[str, Any]) -> str | None:
    """Take 600 MB under a limit of 256."""
    bytearray(600 * 1024 * 1024)
    return None


def large_file(_params: dict[str, Any]) -> str | None:
    """Write 64 MB into one file under a limit of 16."""
    with open("large", "wb") as file:
        for _ in range(64):
            file.write(bytes(1024 * 1024))
    return None


def forks(_params: dict[str, Any]) -> str | None:
    """Make 200 processes under a limit of 32."""
    children: list[int] = []
    try:
        while len(children) < 200:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except BlockingIOError:
        return f"{len(children)} of 200"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return "200 of 200"


PROBES: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "another run's secret in own memory": own_memory,
    "descriptors beyond 0 to 4": descriptors,
    "the supervisor's variables in own environment": environment,
    "/proc/PID/environ of the supervisor": read_process("environ", "supervisor"),
    "/proc/PID/mem of the supervisor": read_process("mem", "supervisor"),
    "/proc/PID/environ of another run (handler)": read_process("environ", "sibling"),
    "/proc/PID/mem of another run (handler)": read_process("mem", "sibling"),
    "/proc/PID/environ of another run (command)": read_process("environ", "command"),
    "/proc/PID/cmdline of another run": read_process("cmdline", "command"),
    "ptrace another run": ptrace,
    "process_vm_readv another run": process_vm_readv,
    "signal the supervisor": kill("supervisor"),
    "signal another run": kill("sibling"),
    "TCP to a service on this machine": tcp,
    "UDP to a service on this machine": udp,
    "Unix socket by path": unix("unix_path"),
    "Unix socket by abstract name": unix("unix_name"),
    "netlink socket": netlink,
    "read a settings file": read_file("settings_file"),
    "read another run's workspace": read_file("other_file"),
    "write into another run's workspace": write_file("other_folder"),
    "read a file in /tmp": read_file("tmp_file"),
    "read another's /dev/shm": shared_memory,
    "a link out of the workspace": symlink,
    "write into the system (/usr)": write_file("/usr"),
    "run a program it wrote": written_program,
    "io_uring": system_call(425, 425),
    "kernel keyring": system_call(250, 219, 0, -3, 1),
    "bpf": system_call(321, 280, 0, 0, 0),
    "new user namespace": user_namespace,
    "600 MB under a limit of 256 MB": allocate,
    "a 64 MB file under a limit of 16 MB": large_file,
    "200 processes under a limit of 32": forks,
}

if __name__ == "__main__":
    sys.exit("This runs inside a sandbox; see tests/security/stage.py.")
