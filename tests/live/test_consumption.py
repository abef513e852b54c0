"""A live end is a reading too: it consumes the task of whoever was told it, and nobody else's."""

from __future__ import annotations

import pytest

from tasks.models import Task
from tasks.services.submit import submit
from tasks.submission import Submission
from tenants.authentication import actor_of_token
from tests.conftest import Eventually
from tests.live.scene import Job, Web, dial, hear_all, publish_type, task_path, token_of
from tests.live.test_streams import address, bearer, listening
from tests.tenants.callers import World


@pytest.mark.parametrize("by", ["socket", "stream"])
def test_a_live_end_consumes_the_listeners_own_task(
    web: Web, lasting_world: World, token: str, by: str, eventually: Eventually
) -> None:
    publish_type()
    row, own = token_of(lasting_world.acme)
    job = Job(submit(lasting_world.acme, actor_of_token(row), Submission(type="live.test"))).run()

    def listen(credential: str) -> None:
        if by == "socket":
            with dial(web, task_path(job), credential) as client:
                assert hear_all(client)[-1]["kind"] == "end"
        else:
            with listening(address(web, job, "events"), bearer(credential)) as stream:
                assert "end" in [getattr(message, "event", None) for message in stream]

    job.complete()
    listen(token)
    assert Task.objects.get(pk=job.id).consumed_at is None
    listen(own)
    eventually(lambda: Task.objects.get(pk=job.id).consumed_at is not None)
