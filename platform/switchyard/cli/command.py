"""What every command shares: its connection options, `--json`, and a `Session` to work with."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, Self

import typer

from switchyard.cli.connection import announce, resolve
from switchyard.cli.output import Output

if TYPE_CHECKING:
    from switchyard.client import Client
    from switchyard.client.errors import SwitchyardError

P = ParamSpec("P")

SETTINGS = {"help_option_names": ["-h", "--help"]}

_COMMON: dict[str, Any] = {
    "json": Annotated[bool, typer.Option("--json", help="Machine output: JSON on stdout.")],
    "url": Annotated[str | None, typer.Option("--url", metavar="URL", help="The server's address.")],
    "token": Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", help="An API token; others see it in the process list."
        ),
    ],
    "tenant": Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="The tenant.")],
}


class Session:
    """One invocation: where it connects to and how it speaks. The client is made when first used."""

    def __init__(
        self,
        output: Output,
        *,
        url: str | None = None,
        token: str | None = None,
        tenant: str | None = None,
        operator: bool = False,
    ) -> None:
        self.output = output
        self._flags = (url, token, tenant)
        self._operator = operator
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> Client:
        """The client of the connection that flags, environment or files name.

        Raises:
            UnusableConnection: none is known.
        """
        if self._client is None:
            # Loading the client takes longer than printing help does.
            from switchyard.client import Client

            connection = resolve(*self._flags, operator=self._operator)
            announce(connection)
            self._client = Client(
                connection.url, connection.token, connection.tenant, on_retry=self._on_retry
            )
        return self._client

    def _on_retry(self, error: SwitchyardError, pause: float) -> None:
        if sys.stderr.isatty():
            self.output.note(f"{error} Trying again in {pause:.1f} s.")


def application(summary: str) -> typer.Typer:
    """Return an empty application with our settings: plain help, our own error sentences."""
    return typer.Typer(
        help=summary,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )


def command(
    app: typer.Typer, name: str, *, operator: bool = False
) -> Callable[[Callable[Concatenate[Session, P], int]], Callable[Concatenate[Session, P], int]]:
    """Register a function as a command of `app`; it gets a `Session` and returns the exit code."""

    def register(
        function: Callable[Concatenate[Session, P], int],
    ) -> Callable[Concatenate[Session, P], int]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def call(**given: Any) -> int:
            common = {part: given.pop(part) for part in _COMMON}
            output = Output(json=common.pop("json"))
            with Session(output, operator=operator, **common) as session:
                return function(session, **given)  # type: ignore[call-arg]

        shared = [
            inspect.Parameter(
                part,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if part == "json" else None,
                annotation=annotation,
            )
            for part, annotation in _COMMON.items()
        ]
        parameters = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in own] + shared
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {part.name: part.annotation for part in parameters}
        call.__doc__ = function.__doc__
        app.command(name, context_settings=SETTINGS)(call)
        return function

    return register
