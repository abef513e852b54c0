"""The first and last thing that happens in a handler's process, once the sandbox is shut.

1. Become undumpable: no sibling of the same user may read what comes next.
2. Read the job from descriptor 3.
3. Import the handler, call it, or become the program that it names (`Command`).
4. Say how it ended on descriptor 4, then run the clean-ups; exit 0 for a result, 1 for an error.
   So a clean-up that hangs, and is killed after the grace, takes no result with it.

SIGTERM raises `Cancelled` once, in the main thread, with the reason that came on descriptor 3; a
handler that swallows it lives until the supervisor's grace is over. SIGTERM is blocked until here,
so one that comes early is not lost.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from _io import BufferedRandom, BufferedWriter, TextIOWrapper  # type: ignore[import-not-found]
from _json import encode_basestring_ascii, make_encoder, make_scanner  # type: ignore[import-not-found]
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGPIPE,
    SIGTERM,
    SIGXFSZ,
    pthread_sigmask,
    signal,
)
from _thread import allocate_lock

from switchyard.context import RunContext
from switchyard.errors import MESSAGE_CAP, Cancelled, TaskError
from switchyard.handler import Command, declared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, NoReturn

CONTROL, MESSAGES = 3, 4
LINE_CAP = 1024 * 1024
WRITERS = (BufferedRandom, BufferedWriter, TextIOWrapper)
LIMIT_ERRNOS = {27: "file_size_limit", 28: "disk_full", 122: "disk_full"}
"""EFBIG, ENOSPC, EDQUOT: no fault of the handler's code."""


class _Parsing:
    """The settings of `json`'s own C parser.

    Importing `json` costs 8 ms, mostly for regular expressions that its C parser and encoder do not
    use; a handler needs nothing else of it.
    """

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: ClassVar[dict[str, str]] = {}


def encoded(value: object) -> str:
    """Return `value` as JSON without spaces; NaN and infinities are a ValueError, as in `json.dumps`."""
    encode = make_encoder({}, _no_json, encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def _no_json(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


class Pipes:
    """The two descriptors that lead to the supervisor; `heard` was read and not yet looked at."""

    def __init__(self, control: int = CONTROL, messages: int = MESSAGES) -> None:
        self.control = control
        self.heard = b""
        self._messages = messages
        self._lock = allocate_lock()

    def read_job(self) -> dict[str, Any]:
        """The job, which is the first line; what came with it stays in `heard`."""
        parts: list[bytes] = []
        while not parts or b"\n" not in parts[-1]:
            data = os.read(self.control, 1 << 20)
            if not data:
                raise EOFError("The supervisor went away before it sent a job.")
            parts.append(data)
        line, _, self.heard = b"".join(parts).partition(b"\n")
        parse = make_scanner(_Parsing())  # type: ignore[arg-type]
        job: dict[str, Any] = parse(line.decode(), 0)[0]
        return job

    def emit(self, message: Mapping[str, Any]) -> None:
        """Send one message; ValueError or TypeError when it is too large or no JSON."""
        line = encoded(message).encode() + b"\n"
        if len(line) > LINE_CAP:
            raise ValueError(f"a message may have {LINE_CAP} bytes, this has {len(line)}")
        with self._lock:
            view = memoryview(line)
            while view:
                view = view[os.write(self._messages, view) :]


def main() -> int:
    """Run the one job of this process and return its exit code; a `Command` never returns."""
    _become_undumpable()
    pipes = Pipes()
    job = pipes.read_job()
    run = RunContext(job, pipes)
    _line_buffer_output()
    try:
        signal(SIGTERM, lambda _number, _frame: _raise_cancelled(run))
        pthread_sigmask(SIG_SETMASK, ())
        outcome = _call(job, run)
        ending: dict[str, Any] = {"op": "result", "data": outcome}
    except BaseException as error:  # every end is reported, SystemExit apart, and then cleaned up
        signal(SIGTERM, SIG_IGN)
        if isinstance(error, SystemExit):
            run.run_cleanups()
            raise
        ending = _describe(error)
    signal(SIGTERM, SIG_IGN)
    code = _report(pipes, ending)
    run.run_cleanups()
    return code


def leave(code: int) -> NoReturn:
    """End the process as Python does, but for taking apart every module and object in it.

    Threads are waited for, exit functions run, and open files are written out. The rest would touch
    most pages of the heap; in a handler that a server forked it copies 1,000 of them (4 ms).
    """
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # What a server had before it forked this process is not among the objects that gc shows.
    for each in (sys.stdout, sys.stderr, *gc.get_objects()):
        if issubclass(type(each), WRITERS):
            try:
                each.flush()
            except (OSError, ValueError):  # nobody reads it any more, or it is closed
                continue
    os._exit(code)


def _call(job: Mapping[str, Any], run: RunContext) -> dict[str, Any] | None:
    """Import the handler and call it with its params."""
    module, _, name = job["handler"].partition(":")
    __import__(module)
    function = getattr(sys.modules[module], name, None)
    declaration = next((each for each in declared.values() if each.function is function), None)
    if function is None or declaration is None:
        raise TaskError("handler_missing", f"{job['handler']} is no handler on this worker.")
    params: Any = job.get("params") or {}
    model = declaration.options["params"]
    if isinstance(model, type):
        params = model.model_validate(params)  # type: ignore[attr-defined]
    outcome = function(run, params)
    if isinstance(outcome, Command):
        _become(outcome, run, job["workspace"])
    if outcome is not None and not isinstance(outcome, dict):
        raise TypeError(f"A handler returns a dict or None; this one returned {type(outcome)}.")
    return outcome


def _become(command: Command, run: RunContext, workspace: str) -> None:
    """Replace this process by the program, which inherits neither of the two pipes."""
    if run.has_cleanups:
        raise TypeError("A handler that returns a Command cannot have clean-ups: nobody is left.")
    workspace = os.path.realpath(workspace)
    folder = os.path.realpath(os.path.join(workspace, command.cwd or "."))
    if folder != workspace and not folder.startswith(workspace + os.sep):
        raise TaskError("bad_workdir", f"The folder {command.cwd!r} is not in the workspace.")
    try:
        os.chdir(folder)
    except OSError as error:
        raise TaskError(
            "bad_workdir", f"The folder {command.cwd!r} cannot be entered: {error.strerror}."
        ) from None
    if command.stdin:
        _feed(command.stdin.encode())
    environment = {**os.environ, **command.env}
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these two for itself; a program expects them to end it.
    signal(SIGPIPE, SIG_DFL)
    signal(SIGXFSZ, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
    try:
        os.execvpe(command.argv[0], command.argv, environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        reason = error.strerror
        code = "command_not_found" if isinstance(error, FileNotFoundError) else "command_refused"
        raise TaskError(code, f"{command.argv[0]!r} cannot be run: {reason}.") from None


def _feed(text: bytes) -> None:
    """Make `text` the standard input: a file without a name, so that no size blocks and none stays."""
    path = os.path.join(os.environ["TMPDIR"], f".stdin-{os.getpid()}")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    view = memoryview(text)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)


def _describe(error: BaseException) -> dict[str, Any]:
    """The message for an end that is no result; what was not expected goes to stderr in full."""
    if isinstance(error, Cancelled):
        return {"op": "error", "code": "cancelled", "message": error.reason or "cancelled"}
    if isinstance(error, TaskError):
        return {
            "op": "error",
            "code": error.code,
            "message": error.message[:MESSAGE_CAP],
            "detail": error.detail,
            "retry": error.retry,
        }
    sys.excepthook(type(error), error, error.__traceback__)
    error.__traceback__ = None  # lets go of what the handler held, which may be all memory there is
    code = "memory_limit" if isinstance(error, MemoryError) else "handler_error"
    if isinstance(error, OSError) and error.errno in LIMIT_ERRNOS:
        code = LIMIT_ERRNOS[error.errno]
    return {
        "op": "error",
        "code": code,
        "message": (str(error) or type(error).__name__)[:MESSAGE_CAP],
        "type": type(error).__name__[:255],
    }


def _report(pipes: Pipes, ending: Mapping[str, Any]) -> int:
    """Send the last message; one that cannot be sent is replaced by an error that says so."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pipes.emit(ending)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"What the handler ended with is no JSON that fits: {error}."[:MESSAGE_CAP]
        ending = {"op": "error", "code": "handler_error", "message": message, "type": "TypeError"}
        pipes.emit(ending)
    return 0 if ending["op"] == "result" else 1


def _raise_cancelled(run: RunContext) -> None:
    """Stop the handler from outside, once: its clean-ups are not to be interrupted."""
    signal(SIGTERM, SIG_IGN)
    raise Cancelled(run.stop_reason or "terminated")


def _line_buffer_output() -> None:
    """Show each line when it is written, although stdout is a pipe."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _become_undumpable() -> None:
    """Refuse ptrace and /proc/PID/mem to others of the same user; only Linux has this."""
    if sys.platform == "linux":
        # What `ctypes` is made of: importing all of it costs a handler that is exec'd 3 ms.
        from _ctypes import call_function, dlopen, dlsym

        pr_set_dumpable = 4
        whole_process = dlopen(None, 0)  # type: ignore[arg-type]
        call_function(dlsym(whole_process, "prctl"), (pr_set_dumpable, 0, 0, 0, 0))
