"""The embedded pair by itself, for tests and experiments: it lives as long as its standard input.

    python -m ops.embedded.pair FOLDER [--temporary]

Prints one line of JSON (``database_url``, ``redis_url``, ``broker_url``: by socket; ``*_tcp``: for
outside tools) and serves until standard input ends, so that it can never outlive whoever started
it. The folder is to be empty. A temporary pair trades crash safety for speed and removes the folder
at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import sys
from pathlib import Path

from ops.accounts import choose_accounts
from ops.embedded.folders import Home, make_folder, remove_socket_folder, socket_folder
from ops.embedded.postgres import Postgres
from ops.embedded.postgres import binaries as postgres_binaries
from ops.embedded.valkey import Valkey
from ops.embedded.valkey import binary as valkey_binary
from ops.namespace import entering, reveal
from ops.supervision.watch import Interrupted, Watch

SECONDS = 60.0


def main() -> int:
    """Serve until standard input ends; 1 when a server does not start."""
    folder = Path(sys.argv[1]).absolute()
    durable = "--temporary" not in sys.argv[2:]
    account = choose_accounts().database
    folder.mkdir(parents=True, exist_ok=True)
    data = {name: make_folder(folder / name, account, 0o700) for name in ("postgres", "valkey")}
    sockets = socket_folder(folder / "sockets", account)
    namespace = None
    if account.switch:
        needs = [*data.values(), sockets, postgres_binaries(), valkey_binary().parent]
        namespace = reveal({account: needs})

    def home(name: str) -> Home:
        return Home(
            data=data[name],
            sockets=sockets,
            log=folder / f"{name}.log",
            ports=folder / "ports.json",
            account=account,
            enter=entering(account, namespace),
        )

    postgres = Postgres(
        home("postgres"),
        password=secrets.token_urlsafe(24),
        administrator_password=secrets.token_urlsafe(24),
        durable=durable,
    )
    valkey = Valkey(home("valkey"), password=secrets.token_urlsafe(24), durable=durable)
    with Watch(lambda sentence: print(sentence, file=sys.stderr)) as watch:
        try:
            for server in (postgres, valkey):
                server.prepare()
                watch.add(server.program())
            for server in (postgres, valkey):
                if not watch.until(server.ready, seconds=SECONDS):
                    return 1
            print(
                json.dumps(
                    {
                        "database_url": postgres.local_url,
                        "redis_url": valkey.local_url,
                        "broker_url": valkey.local_broker_url,
                        "database_url_tcp": postgres.url,
                        "redis_url_tcp": valkey.url,
                        "broker_url_tcp": valkey.broker_url,
                    }
                ),
                flush=True,
            )
            watch.listen(sys.stdin.fileno())
            while not watch.stop_requests and not _input_ended():
                watch.turn()
        except Interrupted:
            return 1
        finally:
            watch.stop()
            remove_socket_folder(sockets)
            if not durable:
                shutil.rmtree(folder, ignore_errors=True)
    return 0


def _input_ended() -> bool:
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0)
    return bool(readable) and os.read(sys.stdin.fileno(), 4096) == b""


if __name__ == "__main__":
    sys.exit(main())
