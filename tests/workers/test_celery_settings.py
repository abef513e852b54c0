"""Each Celery setting is what the design says, and the worker behaves accordingly."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app import defaults
from kombu import Connection

from tests.workers.conftest import Valkey, Worker, until
from workers import system
from workers.beat_schedule import BEAT_SCHEDULE
from workers.celery_settings import SYSTEM_QUEUE, celery_settings, transport_options

StartWorker = Callable[..., Worker]
REDIS = "redis://127.0.0.1:6379/0"

DECIDED: dict[str, Any] = {
    "accept_content": ["json"],
    "beat_enable_remote_control": False,
    "beat_max_loop_interval": 5,
    "beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler",
    "beat_sync_every": 1,
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_timeout": 2.0,
    "broker_heartbeat": 30,
    "broker_url": REDIS,
    "broker_use_ssl": False,
    "enable_utc": True,
    "event_serializer": "json",
    "include": ("workers.supervisor",),
    "result_accept_content": ["json"],
    "result_backend": None,
    "result_expires": None,
    "result_serializer": "json",
    "task_acks_late": False,
    "task_always_eager": False,
    "task_annotations": None,
    "task_create_missing_queues": False,
    "task_default_exchange": "switchyard",
    "task_default_exchange_type": "topic",
    "task_default_queue": "system",
    "task_default_routing_key": "system",
    "task_ignore_result": True,
    "task_protocol": 2,
    "task_publish_retry": False,
    "task_reject_on_worker_lost": False,
    "task_retry_on_worker_lost": False,
    "task_send_sent_event": False,
    "task_serializer": "json",
    "task_soft_time_limit": None,
    "task_store_errors_even_if_ignored": False,
    "task_time_limit": None,
    "task_track_started": False,
    "timezone": "UTC",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_consumer": "workers.worker_consumer:GuardedConsumer",
    "worker_detect_quorum_queues": False,
    "worker_disable_prefetch": True,
    "worker_enable_prefetch_count_reduction": False,
    "worker_enable_remote_control": False,
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_hijack_root_logger": False,
    "worker_max_memory_per_child": None,
    "worker_max_tasks_per_child": 1,
    "worker_pool": "workers.worker_pool:TaskPool",
    "worker_pool_start_method": "fork",
    "worker_prefetch_multiplier": 1,
    "worker_proc_alive_timeout": 30.0,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
    "worker_soft_shutdown_timeout": 0.0,
}
#: Checked below in tests of their own.
ELSEWHERE = {"beat_schedule", "broker_transport_options", "task_queues"}


@pytest.mark.parametrize("name", DECIDED)
def test_a_setting_is_what_was_decided(name: str) -> None:
    assert celery_settings(REDIS)[name] == DECIDED[name]


def test_no_setting_is_undecided_or_unknown_to_celery() -> None:
    names = set(celery_settings(REDIS))
    assert names == set(DECIDED) | ELSEWHERE
    assert names <= set(defaults.DEFAULTS)


def test_the_system_worker_keeps_its_children_in_celerys_own_pool() -> None:
    settings = celery_settings(REDIS, one_shot=False)
    assert settings["worker_max_tasks_per_child"] is None
    assert settings["worker_pool"] == "celery.concurrency.prefork:TaskPool"
    assert settings["include"] == ("workers.system",)


def test_the_queues_are_durable_classic_ones_on_one_topic_exchange() -> None:
    queues = celery_settings(REDIS)["task_queues"]
    assert [queue.name for queue in queues] == ["critical", "normal", "batch", "system"]
    for queue in queues:
        assert (queue.exchange.name, queue.exchange.type) == ("switchyard", "topic")
        assert queue.routing_key == queue.name
        assert queue.durable
        assert queue.exchange.durable
        assert queue.queue_arguments == {"x-queue-type": "classic"}


@pytest.mark.parametrize("url", [REDIS, "rediss://127.0.0.1/0"])
def test_redis_is_given_two_seconds_and_no_second_try(url: str) -> None:
    options = transport_options(url)
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 2.0
    assert options["socket_keepalive"] is True
    assert options["retry_on_timeout"] is False
    assert options["health_check_interval"] == 10


def test_redis_keeps_no_books_of_messages_that_a_worker_has_taken() -> None:
    assert transport_options(REDIS)["ack_emulation"] is False


def test_a_unix_socket_gets_no_option_of_tcp() -> None:
    options = transport_options("redis+socket:///run/valkey.sock")
    assert options["socket_timeout"] == 2.0
    assert not {"socket_connect_timeout", "socket_keepalive"} & set(options)


def test_rabbitmq_confirms_and_is_not_told_to_disable_prefetch() -> None:
    settings = celery_settings("amqp://guest@127.0.0.1//")
    assert settings["broker_transport_options"]["confirm_publish"] is True
    assert settings["worker_disable_prefetch"] is False


def test_rabbitmq_is_given_two_seconds_and_no_second_try() -> None:
    options = transport_options("amqp://guest@127.0.0.1//")
    assert (options["write_timeout"], options["max_retries"]) == (2.0, 0)


@pytest.mark.parametrize("query", ["", "?cert_reqs=none"])
def test_amqps_checks_the_certificate_of_the_host_that_the_url_names(query: str) -> None:
    asked = celery_settings(f"amqps://user:word@rabbit.example:5671//{query}")["broker_use_ssl"]
    assert asked == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit.example"}


@pytest.mark.parametrize("ring", BEAT_SCHEDULE)
def test_beat_rings_for_a_task_of_the_platform_that_expires_before_the_next_ring(ring: str) -> None:
    assert celery_settings(REDIS)["beat_schedule"] == BEAT_SCHEDULE
    entry = BEAT_SCHEDULE[ring]
    task = system.app.tasks[entry["task"]]
    assert task.name == f"workers.system.{task.__name__}"
    assert task.__name__ in vars(system)
    assert entry["options"]["queue"] == SYSTEM_QUEUE
    assert 0 < entry["options"]["expires"] <= entry["schedule"]


def test_beat_rings_for_all_tasks_of_the_platform() -> None:
    tasks = {name for name in system.app.tasks if name.startswith("workers.system.")}
    assert tasks == {entry["task"] for entry in BEAT_SCHEDULE.values()}


def test_rediss_checks_certificates_unless_the_url_says_otherwise() -> None:
    assert celery_settings("rediss://h/0")["broker_use_ssl"] == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    chosen = "rediss://h/0?ssl_cert_reqs=optional"
    settings = celery_settings(chosen)
    connection = Connection(chosen, ssl=settings["broker_use_ssl"])
    assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_OPTIONAL}


def test_another_kind_of_broker_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"scheme 'memory': use redis://"):
        celery_settings("memory://")


def test_a_misspelt_queue_is_an_error_and_makes_no_queue(publisher: Celery) -> None:
    with pytest.raises(KeyError):
        publisher.send_task("pool.work", [1], queue="nromal")


def test_no_remote_command_is_heard(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker().ready()
    publisher.control.broadcast("shutdown")
    assert publisher.control.inspect(timeout=0.5).ping() is None
    publisher.send_task("pool.work", [1], queue="normal")
    until(lambda: worker.numbers("end") == [1], 5, "a task ends after the shutdown command")
    assert worker.alive()


def test_pickle_is_refused_unopened(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.work", [1], queue="normal", serializer="pickle")
    publisher.send_task("pool.work", [2], queue="normal")
    until(lambda: worker.numbers("end") == [2], 5, "the JSON task ends")
    until(lambda: worker.facts()["dropped"], 5, "the refusal is counted")
    assert worker.numbers("start") == [2]


def test_nothing_is_reserved_beyond_the_free_slots(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=2).ready()
    for number in range(6):
        publisher.send_task("pool.work", [number, 1.5], queue="normal")
    until(lambda: len(worker.numbers("start")) == 2, 5, "both slots are busy")
    assert own_valkey.client.llen("normal") == 4
    assert not own_valkey.client.exists("unacked", "unacked_index"), "messages are noted in Redis"


def test_no_result_is_stored(own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.work", [1], queue="normal")
    until(lambda: worker.numbers("end") == [1], 5, "the task ends")
    assert not own_valkey.client.keys("celery-task-meta-*")
