"""The decorator that makes a function the handler of a task type.

Imports nothing that is slow: it runs at the start of every run. What it registers becomes a full
`HandlerSpec` (`switchyard.specification`) only where task types are published.
"""

from __future__ import annotations

from switchyard.errors import HandlerDefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

QUEUES = ("critical", "normal", "batch")
DEFAULT_RETRY = {
    "delay": 5,
    "factor": 2,
    "max_delay": 600,
    "jitter": 0.1,
    "retry_on": (),
    "never_on": (),
}
LIMITS = (
    "cpu_seconds",
    "memory_mb",
    "output_mb",
    "file_mb",
    "workspace_mb",
    "processes",
    "open_files",
)
LEAST_OPEN_FILES = 32
"""What closes a run in opens files itself, under the run's own limit; then Python opens its modules."""

declared: dict[str, Declaration] = {}
"""Every handler declared in this process, by type name."""


class Declaration:
    """One use of `@handler`: the function and the words it was declared with, defaults filled in."""

    __slots__ = ("function", "name", "options")

    def __init__(self, name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.name = name
        self.function = function
        self.options = options


class Command:
    """What a handler returns to be replaced by a program: no Python stays in between.

    `env` is added to the clean environment of the run, `cwd` is relative to the run's workspace,
    `stdin` is the text the program reads. The program's exit decides the run.
    """

    __slots__ = ("argv", "cwd", "env", "stdin")

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
    ) -> None:
        if not argv:
            raise ValueError("A command needs at least the name of a program.")
        self.argv = list(argv)
        self.env = dict(env or {})
        self.cwd = cwd
        self.stdin = stdin


def handler(
    name: str,
    *,
    version: int = 1,
    queue: str = "normal",
    params: type | Mapping[str, Any] | None = None,
    title: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    cancellable: bool = True,
    time_limit: float = 900,
    max_retries: int | None = None,
    retry: Mapping[str, Any] | None = None,
    limits: Mapping[str, int | None] | None = None,
    secrets: Iterable[str] = (),
    network: bool = False,
    on_loss: str | None = None,
    on_shutdown: str | None = None,
    preemptible: bool = False,
    needs: Iterable[str] = (),
    steering: bool = False,
) -> Callable[[Function], Function]:
    """Declare the function below as the handler of task type `name`, and return it unchanged.

    `params` is a pydantic model class (the function then gets an instance), a JSON Schema (it gets
    the dict) or None (no params). Raise `version` when workers with the older handler cannot run what
    is submitted now: tasks wait for a worker that has at least the version they were submitted against.
    `time_limit` is seconds. `max_retries` defaults to 3 for an
    idempotent type and 0 for others. `retry` may hold `delay`, `factor`, `max_delay`, `jitter` (the
    wait before attempt n + 1 is delay × factor ** n seconds, at most max_delay, ± that share), and
    `retry_on`, `never_on`: lists of error codes and names of exception classes. What `never_on` names
    is not tried again; where `retry_on` names anything, nothing else is. `limits` may hold
    `cpu_seconds`, `memory_mb`, `output_mb`, `file_mb`, `workspace_mb`, `processes`, `open_files`.
    `network` permits a task to ask for the network. `on_loss` is None or "drop"; `on_shutdown` is
    None, "requeue" or "drop", which ends its runs at a planned stop, and what waits in line when the
    last workers of its queue are stopped. `steering` lets lines printed on stdout set progress, result
    and error (`switchyard.protocol`).
    """
    if queue not in QUEUES:
        raise HandlerDefinitionError(
            f"Handler {name!r} names the queue {queue!r}; use one of {', '.join(QUEUES)}."
        )
    if not isinstance(version, int) or not 1 <= version < 2**31:
        raise HandlerDefinitionError(f"Handler {name!r} needs a version that is a whole number from 1.")
    if time_limit <= 0:
        raise HandlerDefinitionError(f"Handler {name!r} needs a time limit above 0 seconds.")
    if on_loss not in (None, "drop") or on_shutdown not in (None, "requeue", "drop"):
        raise HandlerDefinitionError(
            f"Handler {name!r}: on_loss is None or 'drop', on_shutdown None, 'requeue' or 'drop'."
        )
    if unknown := set(retry or ()) - DEFAULT_RETRY.keys():
        raise HandlerDefinitionError(
            f"Handler {name!r}: retry knows {', '.join(DEFAULT_RETRY)}, not {', '.join(unknown)}."
        )
    if unknown := set(limits or ()) - set(LIMITS):
        raise HandlerDefinitionError(
            f"Handler {name!r}: limits knows {', '.join(LIMITS)}, not {', '.join(unknown)}."
        )
    if ((limits or {}).get("open_files") or LEAST_OPEN_FILES) < LEAST_OPEN_FILES:
        raise HandlerDefinitionError(
            f"Handler {name!r} needs at least {LEAST_OPEN_FILES} open_files to start."
        )
    options = {
        "version": version,
        "queue": queue,
        "params": params,
        "title": title,
        "description": description,
        "idempotent": idempotent,
        "cancellable": cancellable,
        "time_limit": time_limit,
        "max_retries": (3 if idempotent else 0) if max_retries is None else max_retries,
        "retry": {**DEFAULT_RETRY, **(retry or {})},
        "limits": dict(limits or {}),
        "secrets": tuple(secrets),
        "network": network,
        "on_loss": on_loss,
        "on_shutdown": on_shutdown,
        "preemptible": preemptible,
        "needs": tuple(needs),
        "steering": steering,
    }

    def declare(function: Function) -> Function:
        previous = declared.get(name)
        if previous is not None and previous.function.__module__ != function.__module__:
            raise HandlerDefinitionError(
                f"The task type {name!r} is declared twice: in {previous.function.__module__} "
                f"and in {function.__module__}. Rename one."
            )
        declared[name] = Declaration(name, function, options)
        return function

    return declare
