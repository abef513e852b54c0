"""The first tenant, user and tokens of a new platform.

Made by a management command that runs as the service account; what it makes comes back through a
private file, because tokens are shown once and belong in no log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ops.supervision.programs import Program
from ops.up import components
from ops.up.site import Site

SECONDS = 60.0


def first_start(
    site: Site,
    environment: dict[str, str],
    password: str,
    *,
    own_database: bool,
    run: Callable[[Program, float], None],
) -> dict[str, Any]:
    """Return ``tenant``, ``token``, ``operator_token``, ``user`` and ``password``.

    Safe to repeat: what exists is kept, and only the tokens are new. In a database that is ours
    alone the user gets the password again; elsewhere an existing user keeps his own, and
    ``password`` is None. ``run`` runs a program to its end, or raises.
    """
    given = site.state.setting_files({"first_password": password}, site.accounts.service)
    answer = site.state.service / "first-start.json"
    answer.unlink(missing_ok=True)
    program = components.command(
        site,
        environment,
        "first_start",
        *("--password-file", given["first_password_FILE"], "--answer", str(answer)),
        *(["--set-password"] if own_database else []),
    )
    try:
        run(program, SECONDS)
        made: dict[str, Any] = json.loads(answer.read_text())
        return made
    finally:
        answer.unlink(missing_ok=True)
        (site.state.settings / "first_password").unlink(missing_ok=True)
