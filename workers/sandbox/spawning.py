"""Starts a sandboxed process and holds everything the supervisor needs to guard it.

The child has none of our memory: it is exec'd, or forked by a clean server that is (`handler_server`).
At level `full` all code that is not ours is exec'd, whoever builds the walls around it. The child has
eight descriptors that `inside.launcher` lists, and an environment without secrets.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import marshal
import os
import resource
import select
import signal
import socket
import threading
from dataclasses import replace
from typing import Any

# Imported so that its byte code is on disk: the sandbox may not write any, and compiling it there
# would cost every run 7 ms.
import switchyard.runtime  # noqa: F401
from workers.sandbox import paths, tree
from workers.sandbox.egress import PORT, Egress
from workers.sandbox.executing import command, execute, high
from workers.sandbox.handler_server import HandlerServer, becomes_a_program, server_for
from workers.sandbox.inside import launcher
from workers.sandbox.launch import Exit, Launch, Level, SandboxError
from workers.sandbox.workspace import HOME, TEMPORARY, WORK

PIPE_BYTES = 1024 * 1024
CPU_MARGIN_SECONDS = 1
"""One process may use this much more than the whole run, so that the sum is what ends a run."""
OF_THE_SANDBOX = 2
"""Processes that level `full` itself consists of: the launcher and the reaper."""

_children: set[int] = set()
"""Sandboxed processes that are our own children and not buried yet."""


class Sandboxed:
    """One running sandbox. `pid` is a child of ours; the descriptors are non-blocking.

    `stdout`, `stderr` and `messages` are read (end of file: nobody in the tree holds them any
    more); `control` takes orders for a handler. `pidfd` becomes readable when the process has ended.

    `guarded` says that somebody inside guards the handler (`inside.reaper`): pid 1 at level `full`, or
    the keeper of a handler. What a server has forked (`served`) is no child of ours.
    """

    def __init__(
        self,
        launch: Launch,
        pid: int,
        ours: dict[str, int],
        status: socket.socket,
        egress: Egress | None,
        server: HandlerServer | None,
    ) -> None:
        self.level = launch.level
        self._server = server
        self.served = server is not None
        self.guarded = self.served or self.level is Level.FULL
        self._own_processes = OF_THE_SANDBOX if self.level is Level.FULL else 1
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.stdout = ours["stdout"]
        self.stderr = ours["stderr"]
        self.messages = ours["messages"]
        self.control = ours["control"]
        self._status = status
        self._egress = egress
        self._spared = set(tree.children(os.getpid())) - {pid}
        self._own_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._exit: Exit | None = None
        self._control_lock = threading.Lock()

    def send_job(self, job: dict[str, Any]) -> None:
        """Write the job; what the pipe does not take at once is written by a thread."""
        line = json.dumps(job, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.control, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        rest = self._write(line)
        if rest:
            self._control_lock.acquire()
            threading.Thread(target=self._drain, args=(rest,), name="job", daemon=True).start()

    def cancel(self, reason: str) -> None:
        """Ask the handler to stop, through `check_cancelled()`; without effect on a program."""
        line = json.dumps({"op": "cancel", "reason": reason}).encode() + b"\n"
        with self._control_lock:
            self._write(line)

    def terminate(self) -> None:
        """SIGTERM to the handler and what it started in its own process group, as Ctrl-C would."""
        if self._exit is not None:
            return
        if self.guarded:
            self._order(b"T")
            return
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, signal.SIGTERM)
            except ProcessLookupError:  # not yet a group of its own: its mask keeps the signal
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> list[int]:
        """End the whole tree with SIGKILL; returns pids that outlived even that (normally none)."""
        if self.guarded:
            self._order(b"K")
            if self._ended(2.0):
                return []
        return tree.kill_tree(self.pid, self._spared | (_children - {self.pid}))

    def usage(self) -> tree.Usage:
        """What the tree uses now, orphans included; the processes of the sandbox itself do not count."""
        if self.guarded:
            used = tree.tree_usage([self.pid])
            return replace(used, processes=max(0, used.processes - self._own_processes))
        others = self._spared | (_children - {self.pid})
        return tree.tree_usage(pid for pid in tree.children(os.getpid()) if pid not in others)

    def wait(self, timeout: float | None = None) -> Exit:
        """How it ended, once the handler has and nothing of its tree lives any more.

        Raises TimeoutError when the handler still runs after `timeout` seconds.
        """
        if self._exit is None:
            if not self._ended(timeout):
                raise TimeoutError(f"The process {self.pid} still runs after {timeout} seconds.")
            self._exit = self._describe(0, 0.0, 0) if self.served else self._bury()
        return self._exit

    def close(self) -> None:
        """Let go of the descriptors and the egress proxy; the tree dies if it still lives."""
        if self._exit is None:
            self.kill()
            self.wait(5)
        if self._egress is not None:
            self._egress.close()
        self._status.close()
        for descriptor in (self.pidfd, self.stdout, self.stderr, self.messages, self.control):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Sandboxed:
        """Guard a `with` block: nothing of the sandbox outlives it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _bury(self) -> Exit:
        if not self.guarded:
            tree.kill_tree(self.pid, self._spared | (_children - {self.pid}))
        _, status, used = os.wait4(self.pid, 0)
        _children.discard(self.pid)
        cpu = used.ru_utime + used.ru_stime
        # The kernel counts what we had before the exec as the child's: below that, who knows.
        rss = 0 if used.ru_maxrss <= self._own_rss else used.ru_maxrss * 1024
        return self._describe(status, cpu, rss)

    def _write(self, line: bytes) -> bytes:
        """Write without waiting; what is left, or nothing when nobody reads any more."""
        try:
            return line[os.write(self.control, line) :]
        except BlockingIOError:
            return line
        except BrokenPipeError:
            return b""

    def _drain(self, rest: bytes) -> None:
        poller = select.poll()
        poller.register(self.control, select.POLLOUT)
        try:
            while rest and poller.poll():
                rest = self._write(rest)
        finally:
            self._control_lock.release()

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._status.send(order)

    def _ended(self, timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def _describe(self, status: int, cpu: float, rss: int) -> Exit:
        """Put the wait status and what the inside reported together."""
        for report in self._reports():
            if report[:1] == b"F":
                return Exit(None, None, cpu, rss, "sandbox", report[1:].decode(errors="replace"))
            inner, seconds, kilobytes = report[1:].split()
            status, cpu, rss = int(inner), float(seconds), int(kilobytes) * 1024
            break
        else:
            if self.guarded:  # the reaper was killed before it could report
                abandoned = self._server is not None and self._server.has_ended()
                return Exit(None, "SIGKILL", cpu, rss, "abandoned" if abandoned else "signalled")
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return Exit(None, signal.Signals(-code).name, cpu, rss, "signalled")
        return Exit(code, None, cpu, rss, "exited")

    def _reports(self) -> list[bytes]:
        reports: list[bytes] = []
        with contextlib.suppress(OSError):
            while report := self._status.recv(8192):
                reports.append(report)
        return reports


def spawn(launch: Launch) -> Sandboxed:
    """Start what `launch` describes. Returns at once; what the sandbox refuses, `wait()` tells.

    The calling thread must outlive the sandbox: the kernel kills the process when it ends.
    Raises SandboxError when not even the interpreter can be started.
    """
    server = server_for(launch)
    sandboxed = None if server is None else _start(launch, server)
    # With new pipes: a server that answers too late must find nothing to begin with.
    sandboxed = sandboxed or _start(launch, None)
    assert sandboxed is not None  # noqa: S101 - what cannot be executed raises
    return sandboxed


def _start(launch: Launch, server: HandlerServer | None) -> Sandboxed | None:
    """Have a server fork a process, or exec one, and send it the plan; None if the server did not."""
    plan = _plan(launch, served=server is not None)
    ours, theirs = _pipes()
    status, their_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    status.setblocking(False)
    theirs[launcher.STATUS] = high(their_status.detach())
    egress = None
    if plan["egress"]:
        egress = Egress(launch.egress_allow, launch.egress_deny)
        theirs[launcher.EGRESS] = high(egress.channel_for_sandbox())
    pid = None
    try:
        pid = _execute(launch, theirs) if server is None else server.ask(theirs, status)
    finally:
        for descriptor in theirs.values():
            os.close(descriptor)
        if pid is None:
            for descriptor in ours.values():
                os.close(descriptor)
            status.close()
    if pid is None:
        return None
    if egress is not None:
        egress.start()
    written = ours.pop("plan")
    # Made before the plan is sent: a keeper waits for it, so its pid is not somebody else's yet.
    sandboxed = Sandboxed(launch, pid, ours, status, egress, server)
    os.write(written, marshal.dumps(plan))
    os.close(written)
    if launch.job is not None:
        workspace = str(launch.workspace / WORK)
        sandboxed.send_job(
            {**launch.job, "workspace": workspace, "egress_allow": list(launch.egress_allow)}
        )
    return sandboxed


def _execute(launch: Launch, theirs: dict[int, int]) -> int:
    """Exec the launcher, with these descriptors by their numbers there; return its pid."""
    try:
        pid = execute("launcher", theirs, _environment(launch))
    except OSError as error:
        name = paths.interpreter()[0]
        raise SandboxError(f"{name} cannot be started: {error.strerror}.") from error
    _children.add(pid)
    return pid


def _plan(launch: Launch, *, served: bool) -> dict[str, Any]:
    """What the launcher is to do, in the types that marshal knows, and no more: each run reads it.

    A server has loaded already what it forks a handler with.
    """
    workspace = os.fspath(launch.workspace)
    full = launch.level is Level.FULL
    python_path = [*map(str, paths.site_packages()), *(launch.job or {}).get("python_path", ())]
    argv = list(launch.argv) if launch.argv else None
    our_code = launch.job is None or becomes_a_program(launch.job["handler"])
    if full and not our_code:
        argv = command("handler", *paths.ROOTS, *python_path)
    plan = {
        "level": launch.level.value,
        "name": tree.name_of(launch.marker),
        "parent": os.getpid(),
        "identity": (launch.identity.uid, launch.identity.gid) if launch.identity else None,
        "egress": PORT if full and launch.network else 0,
        "limits": _rlimits(launch),
        "env": dict(launch.env),
        "environment": _environment(launch),
        "cwd": os.path.join(workspace, WORK, launch.cwd or "."),
        "argv": argv,
        "is_handler": launch.job is not None,
        "our_code": our_code,
    }
    if launch.level is not Level.PROCESS:
        plan |= _walls(launch, workspace)
    if not served:
        plan |= {"roots": list(paths.ROOTS), "python_path": python_path}
    return plan


def _walls(launch: Launch, workspace: str) -> dict[str, Any]:
    """What may be seen and used, at the levels at which the kernel sees to that."""
    full = launch.level is Level.FULL
    visible = paths.readable(
        (*launch.read_only_paths, *launch.extra_read_only), code=launch.job is not None
    )
    binds, links = paths.binds_and_links(visible) if full else ([], [])
    shared = ["/tmp", "/dev"] if full else list(paths.SPECIAL)  # noqa: S108 - the run's own
    return {
        "binds": binds,
        "links": links,
        "readable": ["/"] if full else [*visible, *paths.FACTS],
        "writable": [workspace, *shared],
        "workspace": workspace,
        "temporary": f"{workspace}/{TEMPORARY}",
        "internet": full or launch.network,
    }


def _environment(launch: Launch) -> dict[str, str]:
    """The clean environment: nothing of ours is inherited."""
    workspace = os.fspath(launch.workspace)
    environment = {
        "PATH": paths.search_path(launch.read_only_paths),
        "HOME": f"{workspace}/{HOME}",
        "TMPDIR": f"{workspace}/{TEMPORARY}",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        tree.MARKER: launch.marker,
    }
    if launch.level is Level.FULL and launch.network:
        proxy = f"http://127.0.0.1:{PORT}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment[name] = environment[name.upper()] = proxy
        environment["no_proxy"] = environment["NO_PROXY"] = "127.0.0.1,localhost"
    return environment


def _rlimits(launch: Launch) -> dict[str, int]:
    """Limits by rlimit name.

    RLIMIT_DATA and not RLIMIT_AS: V8, Go and Java reserve far more address space than they ever use,
    and only what can be written to counts here. RLIMIT_NPROC lets one process more in than the run
    may have, so that whoever reaches for it is seen, counted and named by the supervisor.
    """
    limits = launch.limits
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": limits.cpu_seconds and limits.cpu_seconds + CPU_MARGIN_SECONDS,
        "RLIMIT_DATA": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
    }
    if launch.level is Level.FULL and limits.processes is not None:
        wanted["RLIMIT_NPROC"] = limits.processes + OF_THE_SANDBOX + 1
    elif launch.identity is not None and limits.processes is not None:
        wanted["RLIMIT_NPROC"] = limits.processes + 1
    return {name: value for name, value in wanted.items() if value is not None}


def _pipes() -> tuple[dict[str, int], dict[int, int]]:
    """Our ends by name, and the ends to hand down by the number they will have."""
    ours: dict[str, int] = {}
    theirs = {0: high(os.open(os.devnull, os.O_RDONLY))}
    for number, name in ((1, "stdout"), (2, "stderr"), (4, "messages")):
        ours[name], write = os.pipe()
        theirs[number] = high(write)
    for number, name in ((3, "control"), (5, "plan")):
        read, ours[name] = os.pipe()
        theirs[number] = high(read)
    for name in ("stdout", "stderr", "messages", "control"):
        os.set_blocking(ours[name], False)
    return ours, theirs
