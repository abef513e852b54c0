"""All commands: the one list from which help is printed and modules are loaded.

Printing the overview needs neither typer nor rich nor the client, so it is there at once.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command: the module with its `app` (a Typer), and its line in the overview."""

    name: str
    module: str
    summary: str
    group: str


WORK = "Work"
ACCOUNT = "Account"
OPERATORS = "For operators"

COMMANDS = (
    Command("run", "switchyard.cli.run", "Submit a task and follow it to its end.", WORK),
    Command(
        "tasks",
        "switchyard.cli.tasks",
        "list, show, cancel, retry, logs, events, wait.",
        WORK,
    ),
    Command("login", "switchyard.cli.login", "Store address, token and tenant.", ACCOUNT),
    Command("me", "switchyard.cli.account", "Who the token is.", ACCOUNT),
    Command("tokens", "switchyard.cli.tokens", "list, create, revoke.", ACCOUNT),
    Command("up", "", "Run the whole platform on this machine.", OPERATORS),
    Command("selftest", "", "Break a running platform a little and check its promises.", OPERATORS),
    Command("status", "switchyard.cli.status", "The state of every component.", OPERATORS),
    Command("queues", "switchyard.cli.queues", "The queues and their counts.", OPERATORS),
    Command(
        "routes", "switchyard.cli.routes", "Which queue a task goes to: list, set, delete.", OPERATORS
    ),
    Command("windows", "switchyard.cli.windows", "Off-peak windows: list, set, clear.", OPERATORS),
    Command("workers", "switchyard.cli.workers", "The workers that are alive.", OPERATORS),
    Command("scale", "switchyard.cli.scale", "The pools, and how many slots they have.", OPERATORS),
    Command("drain", "switchyard.cli.drain", "Replace a worker, or --all one by one.", OPERATORS),
    Command("tenants", "switchyard.cli.tenants", "list, create.", OPERATORS),
    Command("version", "", "The version of this command.", OPERATORS),
)


def find(name: str) -> Command | None:
    """Return the command of this name."""
    return next((command for command in COMMANDS if command.name == name), None)


def close_to(name: str) -> str | None:
    """Return the command that was probably meant."""
    from difflib import get_close_matches

    found = get_close_matches(name, [command.name for command in COMMANDS], n=1)
    return found[0] if found else None


def overview() -> str:
    """Return the text of `switchyard --help`; 80 columns suffice."""
    parts = [
        "Usage: switchyard COMMAND [OPTIONS] …",
        "",
        "  Hand work to a Switchyard and watch it run.",
        "",
        "  switchyard run shell.command --queue critical -- ruff check .",
    ]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        parts += ["", f"{group}:"]
        parts += [f"  {entry.name:<9}{entry.summary}" for entry in COMMANDS if entry.group == group]
    parts += [
        "",
        "Connection (first found): --url --token --tenant; SWITCHYARD_URL,",
        "SWITCHYARD_TOKEN, SWITCHYARD_TENANT; `switchyard login`; the file",
        ".switchyard/credentials.json of an `up` in this folder.",
        "",
        "Every command has --help, and --json for stable machine output.",
        "Exit: 0 completed, 1 error, 2 usage, 4 failed, 8 still running,",
        "16 cancelled or dropped.",
    ]
    return "\n".join(parts)
