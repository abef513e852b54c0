"""How this machine's workers reach PostgreSQL: through the pooler, or each run by itself."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psycopg

from ops.accounts import Account
from ops.embedded.folders import remove_socket_folder, socket_folder
from ops.pools.pooler import CONNECT_SECONDS, PORT
from ops.supervision.programs import Program
from tasks.services.append import APPEND
from tasks.services.claim import ASKED, CLAIM, RENEW
from tasks.services.finish import CHILDREN, END, LOCK
from tasks.wakeup import NOTIFY

OF_EVERY_RUN = (CLAIM, RENEW, ASKED, APPEND, LOCK, CHILDREN, END, NOTIFY)
"""What supervisors ask again and again: each session of the pooler has it prepared."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PooledConnections:
    """The pooler's program and the ``DATABASE_URL`` of those who go through it."""

    program: Program
    url: str
    folder: Path

    def ready(self) -> bool:
        """Whether it listens: its socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.folder / f".s.PGSQL.{PORT}"))
            return True
        return False

    def remove(self) -> None:
        """Remove its socket and their folder."""
        remove_socket_folder(self.folder)


def pooled_connections(
    url: str, *, preferred: Path, directory: Path, logs: Path | None
) -> PooledConnections | None:
    """Return the pooler for a database; None where its sessions cannot be passed on (TLS).

    ``preferred`` is the folder of its socket; a temporary one serves where that path is too long.
    """
    if _over_tls(url):
        logger.info("connections to PostgreSQL use TLS: each run makes its own")
        return None
    own = Account("", os.geteuid(), os.getegid(), switch=False)
    folder = socket_folder(preferred, own)
    folder.chmod(0o700)
    password = secrets.token_urlsafe(24)
    program = Program(
        name="pooler",
        argv=(sys.executable, "-m", "ops.pools.pooler", str(folder)),
        environment={
            **os.environ,
            "DATABASE_URL": url,
            "SWITCHYARD_POOLER_PASSWORD": password,
            "SWITCHYARD_POOLER_STATEMENTS": json.dumps(
                {each.name: each.preparation() for each in OF_EVERY_RUN}
            ),
        },
        directory=directory,
        log=logs / "pooler.log" if logs else None,
        grace=5.0,
    )
    where = urlencode({"host": str(folder), "port": str(PORT)})
    return PooledConnections(program, f"postgresql://switchyard:{password}@/switchyard?{where}", folder)


def _over_tls(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        return bool(connection.pgconn.ssl_in_use)
