"""Runs one handler where it can reach nothing but its own workspace.

    launch = Launch(level=Level.FULL, workspace=make_workspace(base, "run"), job={...})
    sandboxed = spawn(launch)           # pid, pidfd and four descriptors to poll
    sandboxed.cancel("user_cancelled")  # asks; .terminate() signals; .kill() ends the whole tree
    exit = sandboxed.wait(timeout=10)

Linux only from level `container` up; `process` also runs on macOS. What each level closes and
leaves open is measured by tests/security and written to docs/isolation.md.

Names are loaded on first use, because handlers import `workers.sandbox.addresses` from inside.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workers.sandbox.detection import Detection, detect
    from workers.sandbox.identity import acquire_identity, acting_as, drop_to, harden_self
    from workers.sandbox.launch import Exit, HandlerIdentity, Launch, Level, Limits, SandboxError
    from workers.sandbox.measuring import unlinked_bytes, workspace_bytes
    from workers.sandbox.spawning import Sandboxed, spawn
    from workers.sandbox.tree import Usage, become_subreaper, sweep_orphans, tree_usage
    from workers.sandbox.workspace import (
        WorkspaceError,
        make_workspace,
        open_inside,
        wipe_workspace,
        work_folder,
    )

HOMES = {
    "detection": ("Detection", "detect"),
    "identity": ("acquire_identity", "acting_as", "drop_to", "harden_self"),
    "launch": ("Exit", "HandlerIdentity", "Launch", "Level", "Limits", "SandboxError"),
    "measuring": ("unlinked_bytes", "workspace_bytes"),
    "spawning": ("Sandboxed", "spawn"),
    "tree": ("Usage", "become_subreaper", "sweep_orphans", "tree_usage"),
    "workspace": (
        "WorkspaceError",
        "make_workspace",
        "open_inside",
        "wipe_workspace",
        "work_folder",
    ),
}

__all__ = [
    "Detection",
    "Exit",
    "HandlerIdentity",
    "Launch",
    "Level",
    "Limits",
    "SandboxError",
    "Sandboxed",
    "Usage",
    "WorkspaceError",
    "acquire_identity",
    "acting_as",
    "become_subreaper",
    "detect",
    "drop_to",
    "harden_self",
    "make_workspace",
    "open_inside",
    "spawn",
    "sweep_orphans",
    "tree_usage",
    "unlinked_bytes",
    "wipe_workspace",
    "work_folder",
    "workspace_bytes",
]


def __getattr__(name: str) -> object:
    """Import the module that holds a public name when the name is first used."""
    from importlib import import_module

    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
