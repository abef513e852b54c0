"""Live views while Redis is frozen, gone, or full of somebody else's messages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis
from channels_redis.serializers import registry
from django.conf import settings

from ops.embedded.valkey import binary
from tasks.announce import task_group
from tests.conftest import Eventually
from tests.live.scene import Web, dial, hear, hear_all, seqs, submitted, task_path, web_process
from tests.live.test_feed import FEED
from tests.tenants.callers import World


class OwnRedis:
    """A Valkey that a test may mistreat."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        argv = [str(binary()), "--port", str(self.port), "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def lonely_web(own_redis: OwnRedis, db: None, tmp_path: Path) -> Iterator[Web]:
    """A web process whose Redis is its own."""
    with web_process(tmp_path, REDIS_URL=own_redis.url) as running:
        yield running


def test_a_frozen_redis_delays_and_loses_nothing(
    lasting_world: World, token: str, own_redis: OwnRedis, lonely_web: Web
) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(lonely_web, task_path(job, after=0), token) as early:
        hear(early)
        own_redis.process.send_signal(signal.SIGSTOP)
        for number in range(50):
            job.print(f"line {number}")
        with dial(lonely_web, task_path(job, after=0), token) as late:
            assert hear(late)["kind"] == "snapshot"
            job.complete()
            assert seqs(hear_all(late)) == list(range(1, 54))
        assert seqs(hear_all(early)) == list(range(1, 54))
    waited = httpx2.get(
        f"{lonely_web.url}/api/v1/tenants/acme/tasks/{job.id}/wait",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )
    assert waited.json()["status"] == "completed"


def test_a_socket_opens_without_redis_and_the_feed_goes_on(
    lasting_world: World, token: str, own_redis: OwnRedis, lonely_web: Web
) -> None:
    own_redis.stop()
    with dial(lonely_web, FEED, token) as client:
        assert hear(client)["kind"] == "snapshot"
        job = submitted(lasting_world.acme)
        assert hear(client)["task"] == str(job.id)


def test_announcements_are_heard_again_after_a_restart(
    lasting_world: World, token: str, own_redis: OwnRedis, lonely_web: Web, eventually: Eventually
) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(lonely_web, task_path(job), token) as client:
        hear(client)
        own_redis.stop()
        own_redis.start()
        channel = f"switchyard__group__{task_group(job.id)}"
        eventually(lambda: listeners(own_redis, channel) == 1)
        seq = job.print("here")
        assert hear(client)["seq"] == seq


def listeners(server: OwnRedis, channel: str) -> int:
    try:
        with redis.Redis.from_url(server.url) as client:
            return int(dict(client.pubsub_numsub(channel))[channel.encode()])
    except redis.ConnectionError:
        return 0


def test_messages_that_are_not_ours_are_logged_and_ignored(
    web: Web, lasting_world: World, token: str, eventually: Eventually
) -> None:
    job = submitted(lasting_world.acme).run()
    ours = registry.get_serializer("msgpack", symmetric_encryption_keys=[settings.SECRET_KEY])
    plain = registry.get_serializer("msgpack")
    pipe = redis.Redis.from_url(os.environ["REDIS_URL"])
    with pipe, dial(web, task_path(job), token) as client:
        hear(client)
        channel = f"switchyard__group__{task_group(job.id)}"
        for message in (
            ours.serialize({"type": "websocket.close", "code": 4999}),
            ours.serialize({"type": "task.event"}),
            ours.serialize([1, 2]),
            plain.serialize({"type": "task.event", "task": str(uuid.uuid4()), "seq": 7}),
            b"\xff\xfe garbage",
        ):
            eventually(lambda: pipe.publish(channel, message) == 1)  # noqa: B023
        eventually(lambda: "announcement_unknown" in web.log.read_text())
        eventually(lambda: "announcement_unreadable" in web.log.read_text())
        seq = job.print("still here")
        assert hear(client)["seq"] == seq


def test_group_names_are_built_from_ids_only() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        task_group("../../etc")
