"""A web process that is asked to stop lets everybody go at once, and nobody misses anything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.live.scene import close_code, dial, hear, hear_all, seqs, submitted, task_path, web_process
from tests.live.test_streams import address, bearer, listening
from tests.live.test_wait import wait
from tests.tenants.callers import World


def test_sockets_are_told_1012_and_streams_end_within_three_seconds(
    lasting_world: World, token: str, tmp_path: Path
) -> None:
    job = submitted(lasting_world.acme).run()
    with web_process(tmp_path) as web, ThreadPoolExecutor(1) as pool:
        with (
            dial(web, task_path(job), token) as client,
            listening(address(web, job, "events", "?after=1"), bearer(token)) as stream,
        ):
            hear(client)
            assert next(stream).id == "2"
            waiting = pool.submit(wait, web, job, token)
            httpx2.get(f"{web.url}/health/live", trust_env=False)
            assert web.terminate() < 3
            assert close_code(client) == 1012
            assert list(stream) == []
            assert waiting.result(5).json()["status"] == "running"


def test_a_killed_web_process_costs_its_clients_nothing(
    lasting_world: World, token: str, tmp_path: Path
) -> None:
    job = submitted(lasting_world.acme).run()
    with web_process(tmp_path) as web:
        with dial(web, task_path(job, after=0), token) as client:
            assert hear(client)["kind"] == "snapshot"
            seen = seqs([hear(client), hear(client)])
            web.process.kill()
    job.print("meanwhile")
    with web_process(tmp_path) as web:
        with dial(web, task_path(job, after=seen[-1]), token) as client:
            hear(client)
            job.complete()
            assert seen + seqs(hear_all(client)) == [1, 2, 3, 4]
