"""A client that reads slowly slows nobody else; one that reads nothing is let go."""

from __future__ import annotations

import socket

from tests.conftest import Eventually
from tests.live.scene import Web, close_code, dial, hear, hear_all, seqs, submitted, task_path
from tests.tenants.callers import World

LINE = "x" * 60_000


def test_a_slow_reader_gets_everything_in_the_end(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(web, task_path(job, after=0), token, compression=None, max_queue=1) as client:
        hear(client)
        for _ in range(200):
            job.print(LINE)
        job.complete()
        with dial(web, task_path(job, after=0), token, compression=None) as quick:
            assert seqs(hear_all(quick)) == list(range(1, 204))
        assert seqs(hear_all(client)) == list(range(1, 204))


def test_a_client_that_reads_nothing_is_closed_with_4408(
    impatient_web: Web, lasting_world: World, token: str, eventually: Eventually
) -> None:
    job = submitted(lasting_world.acme).run()
    for _ in range(150):
        job.print(LINE)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", impatient_web.port))
    # Another connection is served while the first one stalls.
    path = task_path(job, after=0)
    with dial(impatient_web, path, token, compression=None, max_queue=1, sock=narrow) as deaf:
        with dial(impatient_web, task_path(job), token) as client:
            hear(client)
            seq = job.print("still served")
            assert hear(client)["seq"] == seq
        eventually(lambda: "4408" in impatient_web.log.read_text(), seconds=10)
        assert close_code(deaf, 20) == 4408
