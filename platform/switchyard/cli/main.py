"""The entry point: picks the command, and turns every failure into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from switchyard.cli import catalogue, exit_codes

SERVER_MISSING = (
    "The server is not installed here, only the client: install it with "
    "`pip install 'switchyard[server]'` in a checkout (or `make install`), then run "
    "`.venv/bin/switchyard up`."
)


SERVERS_OWN = {"up": "ops.up.command", "selftest": "ops.selftest.command"}
"""Commands that only an installed server has, and their modules."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with its arguments (those of the process by default); return the exit code.

    Every error becomes a sentence on stderr; `SWITCHYARD_DEBUG=1` shows the traceback instead.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`… | head`): nothing is left to be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.ERROR
    except Exception as error:
        if os.environ.get("SWITCHYARD_DEBUG"):
            raise
        return _failed(error)
    return code


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in ("", "-h", "--help", "help"):
        print(catalogue.overview())
        return exit_codes.OK if arguments else exit_codes.USAGE
    if name in ("version", "--version"):
        return _version(arguments[1:])
    if name in SERVERS_OWN:
        return _servers_own(SERVERS_OWN[name], arguments[1:])
    command = catalogue.find(name)
    if command is None:
        return _unknown(name)
    app = import_module(command.module).app
    answer = app(args=arguments[1:], prog_name=f"switchyard {name}", standalone_mode=False)
    return answer if isinstance(answer, int) else exit_codes.OK


def _servers_own(module: str, arguments: list[str]) -> int:
    try:
        # By name: the client must be importable, and packaged, without the server.
        command = import_module(module)
    except ModuleNotFoundError as error:
        if os.environ.get("SWITCHYARD_DEBUG"):
            raise
        missing = "" if module.startswith(str(error.name)) else f" (missing: {error.name})"
        _say(f"{SERVER_MISSING}{missing}")
        return exit_codes.ERROR
    return int(command.run(arguments) or 0)


def _version(arguments: list[str]) -> int:
    import json
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("switchyard")
    except PackageNotFoundError:
        number = "unknown"
    print(json.dumps({"version": number}) if "--json" in arguments else f"switchyard {number}")
    return exit_codes.OK


def _unknown(name: str) -> int:
    from switchyard.cli.text import printable

    meant = catalogue.close_to(name)
    hint = f"Did you mean `switchyard {meant}`?" if meant else "`switchyard --help` lists them."
    _say(f"There is no command {printable(name)!r}. {hint}")
    return exit_codes.USAGE


def _failed(error: Exception) -> int:
    from switchyard.cli.failures import explain

    sentence, code = explain(error)
    _say(sentence)
    return code


def _say(sentence: str) -> None:
    sys.stdout.flush()
    print(f"switchyard: {sentence}", file=sys.stderr, flush=True)


def _prepare_streams() -> None:
    """Never die of a character that the terminal's encoding lacks; a pipe gets UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            encoding = None if stream.isatty() else "utf-8"
            reconfigure(encoding=encoding, errors="backslashreplace")
