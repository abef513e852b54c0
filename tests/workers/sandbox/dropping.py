"""Becoming what a worker becomes that `up` started as root."""

from __future__ import annotations

import sys
from pathlib import Path

from ops.accounts import Account
from ops.namespace import reveal
from workers.sandbox import drop_to
from workers.sandbox.paths import ROOT

NOBODY = 65534


def drop_as_a_worker_does(*, keep_setuid: bool = True) -> None:
    """Give root up, and still reach this Python and this checkout where only root may enter.

    Raises:
        Unreachable: when they cannot be revealed here (mount namespaces are not permitted).
    """
    account = Account("nobody", NOBODY, NOBODY, switch=True)
    namespace = reveal({account: [Path(sys.base_prefix), Path(sys.prefix), ROOT]})
    if namespace is not None:
        namespace.enter()
    drop_to(NOBODY, NOBODY, keep_setuid=keep_setuid)
