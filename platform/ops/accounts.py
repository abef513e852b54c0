"""Which account runs what.

Started by an ordinary user, everything runs as that user. Started by root, nothing that serves
stays root: the databases and our own processes run as two existing unprivileged accounts, so that
neither can read the other's files. No account is ever made or changed.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

DATABASE_CANDIDATES = ("postgres", "nobody", "daemon")
SERVICE_CANDIDATES = ("switchyard", "www-data", "daemon", "nobody")


class NoAccount(Exception):
    """Root needs two unprivileged accounts, and this machine has too few."""


@dataclass(frozen=True)
class Account:
    """A user that a program runs as; ``switch`` is false for the user who started us."""

    name: str
    uid: int
    gid: int
    switch: bool

    def become(self) -> None:
        """Drop to this account for good (in a child, before its exec)."""
        if self.switch:
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)

    def own(self, path: Path) -> None:
        """Give a folder that we made to this account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


@dataclass(frozen=True)
class Accounts:
    """Who runs the databases and who runs our own processes."""

    database: Account
    service: Account

    @property
    def dropped(self) -> bool:
        """Whether we are root and hand our programs to other accounts."""
        return self.service.switch


def choose_accounts() -> Accounts:
    """Return the accounts for this start.

    Raises:
        NoAccount: as root, when the machine lacks two unprivileged accounts.
    """
    if os.geteuid() != 0:
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        own = Account(name, uid, os.getegid(), switch=False)
        return Accounts(own, own)
    database = _first(DATABASE_CANDIDATES, but_not=None)
    return Accounts(database, _first(SERVICE_CANDIDATES, but_not=database))


def _first(names: tuple[str, ...], *, but_not: Account | None) -> Account:
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0 and (but_not is None or entry.pw_uid != but_not.uid):
            return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
    raise NoAccount(
        "Started as root, Switchyard runs its servers as unprivileged accounts, and none of "
        f"{', '.join(names)} is there to use: start it as an ordinary user."
    )
