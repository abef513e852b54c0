"""The command line of ``up``.

    up [--state DIR] [--port N] [--host H] [--detach] [--stop] [--no-welcome] [--json]

Exit codes: 0 stopped as asked (or ready, with ``--detach``), 1 could not start or stop, 2 usage.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ops.supervision.watch import Interrupted, Watch
from ops.up.detach import detached
from ops.up.progress import Progress
from ops.up.session import Options, Session, StartFailed, default_state
from ops.up.state import State, StateError
from ops.up.stop import stop
from ops.up.welcome import welcome


def run(argv: list[str]) -> int:
    """Run ``up`` with its arguments and return the exit code."""
    arguments = _parser().parse_args(argv)
    progress = Progress(as_json=arguments.json)
    state = State(arguments.state or default_state())
    try:
        if arguments.stop:
            return stop(state, progress)
        state.make()
        # The job's log is for people, and it would stand between the objects.
        welcomes = not (arguments.no_welcome or arguments.json)
        if arguments.detach:
            return detached(lambda told: _serve(arguments, told, state, welcomes=False), progress)
        return _serve(arguments, progress, state, welcomes=welcomes)
    except StateError as error:
        progress.failed(str(error))
        return 1


def _serve(arguments: argparse.Namespace, progress: Progress, state: State, *, welcomes: bool) -> int:
    """Hold the state folder, start, watch, stop."""
    state.lock()
    options = Options(state.folder, arguments.host, arguments.port)
    with Watch(progress.step) as watch:
        session = Session(options, progress, watch, state)
        code = 0
        try:
            site = session.start()
            known = state.read_credentials()
            access = {name: known.get(name) for name in ("url", "tenant", "user", "password")}
            progress.ready(**access, credentials=str(state.credentials))
            if welcomes:
                welcome(site, watch, progress)
            while not watch.stop_requests:
                watch.turn()
        except Interrupted:
            code = 1
        except StartFailed as failure:
            progress.failed(failure.told())
            code = 1
        finally:
            session.finish()
            state.release()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchyard up",
        description="Run the whole platform on this machine until Ctrl-C.",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="state folder (default .switchyard)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, metavar="N", help="web port (default 8000; 0: any)")
    parser.add_argument("--detach", action="store_true", help="return once the platform is ready")
    parser.add_argument("--stop", action="store_true", help="stop the one that runs, and wait")
    parser.add_argument(
        "--json", action="store_true", help="print an object a line, for programs; no welcome job"
    )
    parser.add_argument("--no-welcome", action="store_true", help="do not run the welcome job")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)
