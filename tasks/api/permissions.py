"""Who may change a task: its submitter, an admin of the tenant, or a platform operator."""

from __future__ import annotations

from rest.errors import ScopeRequired
from tasks.errors import NotYours
from tasks.models import Task
from tasks.selectors.tasks import is_submitter
from tenants.actor import Actor

WRITE = "tasks:write"
ADMIN = "tasks:admin"


def may_change_all(actor: Actor) -> bool:
    """Tell whether the caller may change every task of the tenant."""
    return actor.operator or actor.can(ADMIN)


def require_change(actor: Actor, *, force: bool = False) -> None:
    """Check, before any task is looked up, that the caller may change tasks at all.

    Raises:
        ScopeRequired: naming the scope.
    """
    if may_change_all(actor):
        return
    if force:
        raise ScopeRequired(ADMIN)
    if not actor.can(WRITE):
        raise ScopeRequired(WRITE)


def require_change_of(actor: Actor, task: Task) -> None:
    """Check that the caller, who passed :func:`require_change`, may change this task.

    Raises:
        NotYours: it is somebody else's.
    """
    if not may_change_all(actor) and not is_submitter(actor, task):
        raise NotYours
