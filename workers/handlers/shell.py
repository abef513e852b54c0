"""`shell.command`: a command in the run's workspace, or in a checkout of its source.

The handler turns params into a `Command` and is gone; the checkout before it is a step of its own
(`workers.handlers.checkout`), and its exit is judged by the supervisor (`outcome`).
"""

from __future__ import annotations

from switchyard import Command, RunContext, handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KIB = 1024
PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "properties": {
        "command": {
            "description": "A program with its arguments, or a script for /bin/sh.",
            "oneOf": [
                {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 128 * KIB},
                    "minItems": 1,
                    "maxItems": 1000,
                },
                {"type": "string", "minLength": 1, "maxLength": 128 * KIB - 1},
            ],
        },
        "source": {
            "description": "A git repository to check out into the workspace first.",
            "oneOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["git"],
                    "properties": {
                        "git": {
                            "type": "string",
                            "description": "An https, ssh or (where allowed) file address.",
                            "minLength": 1,
                            "maxLength": 2048,
                        },
                        "ref": {
                            "type": "string",
                            "description": "A branch, a tag or a commit; default: the default branch.",
                            "default": "HEAD",
                            "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_./@+#=-]*$",
                            "maxLength": 255,
                        },
                        "depth": {
                            "type": ["integer", "null"],
                            "description": "How many commits of history; null for all.",
                            "default": 1,
                            "minimum": 1,
                            "maximum": 1000000,
                        },
                    },
                },
            ],
            "default": None,
        },
        "workdir": {"type": "string", "default": ".", "minLength": 1, "maxLength": 1024},
        "env": {
            "type": "object",
            "default": {},
            "maxProperties": 200,
            "propertyNames": {
                "pattern": r"^(?!SWITCHYARD_)[A-Za-z_][A-Za-z0-9_]*$",
                "maxLength": 128,
            },
            "additionalProperties": {"type": "string", "maxLength": 64 * KIB},
        },
        "stdin": {"type": "string", "default": "", "maxLength": 512 * KIB},
        "success_codes": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
            "default": [0],
            "minItems": 1,
            "maxItems": 256,
            "uniqueItems": True,
        },
        "artifacts": {
            "description": "Files to keep, as patterns relative to the workspace; ** is any depth.",
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 512},
            "default": [],
            "maxItems": 50,
        },
        "network": {"type": "boolean", "default": False},
    },
}


@handler(
    "shell.command",
    queue="normal",
    params=PARAMS,
    title="Run a command",
    time_limit=900,
    network=True,
    steering=True,
)
def run_command(run: RunContext, params: Mapping[str, Any]) -> Command:
    """Run a program or a shell script, in a fresh workspace or in a checkout of a git repository."""
    command = params["command"]
    return Command(
        ["/bin/sh", "-c", command] if isinstance(command, str) else command,
        env={**params.get("env", {}), **run.secrets},
        cwd=params.get("workdir", "."),
        stdin=params.get("stdin") or None,
    )


def outcome(params: Mapping[str, Any], code: int | None, signal: str | None) -> dict[str, Any] | None:
    """The error of a command that ended with an exit code or by a signal; None for success."""
    if signal is not None:
        return {
            "code": "signal",
            "message": f"The command was ended by {signal}.",
            "detail": {"signal": signal},
        }
    if code in params.get("success_codes", [0]):
        return None
    return {
        "code": "exit_code",
        "message": f"The command ended with exit code {code}.",
        "detail": {"exit_code": code},
    }
