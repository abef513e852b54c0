"""Every Celery setting of Switchyard, each with its reason.

The broker is a doorbell: PostgreSQL holds the queue, the order, the limits, the leases and the
results. A message may be lost, doubled or late without harm, so everything here aims at a worker
that never hoards messages, never hangs on a broker, and takes orders from nobody but the
dispatcher.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kombu import Exchange, Queue

from workers.beat_schedule import BEAT_SCHEDULE

__all__ = ("EXCHANGE", "POOLS", "SYSTEM_QUEUE", "celery_settings", "transport_options")

#: The queues that carry tenants' work, one pool of workers each.
POOLS = ("critical", "normal", "batch")

#: The platform's own tasks: partitions to make, files to remove, what is kept no longer or has expired.
SYSTEM_QUEUE = "system"

#: Where everything is published; each queue is bound by its own name. A direct exchange would do as
#: well, but RabbitMQ refuses to declare an exchange anew with another type than it has.
EXCHANGE = Exchange("switchyard", type="topic", durable=True)

#: Longest wait in seconds for a broker that does not answer. Without it a publish to a frozen Redis
#: never returns.
BROKER_TIMEOUT = 2.0


def celery_settings(broker_url: str, *, one_shot: bool = True) -> dict[str, Any]:
    """The settings for a broker at `broker_url` (redis://, rediss://, redis+socket:// or amqp(s)://).

    `one_shot` is the pools' kind of worker: a fresh child for every task. The system worker keeps
    its children (`one_shot=False`). Raises `ValueError` for a broker that workers cannot use.
    """
    scheme = urlsplit(broker_url).scheme
    redis = scheme.startswith("redis")
    options = transport_options(broker_url)
    return {
        # -- the broker ----------------------------------------------------------------------------
        "broker_url": broker_url,
        "broker_transport_options": options,
        "broker_use_ssl": _tls(broker_url),
        # A dead broker is met at every start of the machine: wait for it, for ever, and come back
        # to it.
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # RabbitMQ closes a channel with 406 after its consumer timeout; the default then stops
        # consuming and lets the worker live on, deaf.
        "broker_channel_error_retry": True,
        "broker_connection_timeout": BROKER_TIMEOUT,
        # AMQP only: a machine that vanished is noticed in half a minute instead of four.
        "broker_heartbeat": 30,
        # -- queues --------------------------------------------------------------------------------
        "task_queues": [_queue(name) for name in (*POOLS, SYSTEM_QUEUE)],
        # A misspelt queue name is an error, not a queue that nobody serves.
        "task_create_missing_queues": False,
        # The dispatcher always names the pool; what is published without a name is the platform's
        # own.
        "task_default_queue": SYSTEM_QUEUE,
        "task_default_exchange": EXCHANGE.name,
        "task_default_exchange_type": EXCHANGE.type,
        "task_default_routing_key": SYSTEM_QUEUE,
        # Every queue is declared classic; looking for quorum queues is one question less at the
        # start.
        "worker_detect_quorum_queues": False,
        # -- messages ------------------------------------------------------------------------------
        # JSON only: unpickling runs whatever the sender likes.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_accept_content": ["json"],
        "result_serializer": "json",
        "event_serializer": "json",
        # The message that workers.messages checks: arguments in the body, the rest in headers.
        "task_protocol": 2,
        # The dispatcher publishes after its commit and tries again later; a retry inside the
        # publish only holds it up (measured on a hung Redis: 2 s without, 15.6 s with).
        "task_publish_retry": False,
        # Run in the process that publishes it, a task would have neither slot nor supervisor.
        "task_always_eager": False,
        # -- acknowledging -------------------------------------------------------------------------
        # Early: the message is gone before the work starts, so no restart, timeout or reconnect of
        # the broker can run a task twice. The lease in PostgreSQL finds what is lost.
        "task_acks_late": False,
        # A run whose worker died is the database's to repeat: the broker would have it a second time.
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        # Redis only (elsewhere Celery ignores it with a warning): nothing is reserved beyond free
        # slots.
        "worker_disable_prefetch": redis,
        # RabbitMQ still sends this many per slot ahead of time; one is the least it can be.
        "worker_prefetch_multiplier": 1,
        # No gradual regrowth of the prefetch count after a reconnect: it is at its least already.
        "worker_enable_prefetch_count_reduction": False,
        # A run needs no broker to go on and to end.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # -- results -------------------------------------------------------------------------------
        # Results are rows, written by the supervisor in the transaction that ends the run.
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_track_started": False,
        # No expiry, so beat adds no clean-up entry of its own.
        "result_expires": None,
        # -- children ------------------------------------------------------------------------------
        "worker_pool": (
            "workers.worker_pool:TaskPool" if one_shot else "celery.concurrency.prefork:TaskPool"
        ),
        "worker_max_tasks_per_child": 1 if one_shot else None,
        # Spawned children would import Django for each task: half a second.
        "worker_pool_start_method": "fork",
        # The default kills a child that is not up within 4 s: on a loaded machine, for ever.
        "worker_proc_alive_timeout": 30.0,
        # Looked at only after a task, when a one-shot child leaves anyway; memory is the
        # supervisor's.
        "worker_max_memory_per_child": None,
        # Wall time, CPU time and cancel are the supervisor's, with a proper grace; Celery's limit
        # kills the child and leaves the handler's processes behind.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        # Nothing changes the tasks' options from outside: all of them stand here and at the tasks.
        "task_annotations": None,
        # Imported by the parent before it forks, so that children import nothing; a module that
        # fails to import stops the start.
        "include": ("workers.supervisor",) if one_shot else ("workers.system",),
        # -- who may tell a worker what ------------------------------------------------------------
        # Whoever reaches the broker could otherwise stop workers. Cancel and limits go by the
        # database.
        "worker_enable_remote_control": False,
        # What is no message of ours is refused before a child sees it.
        "worker_consumer": "workers.worker_consumer:GuardedConsumer",
        # Events of runs are rows of ours; nobody listens to the broker's.
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # -- shutdown ------------------------------------------------------------------------------
        # SIGTERM waits for what runs; the supervisor interrupts its own run when the drain is over.
        "worker_soft_shutdown_timeout": 0.0,
        "worker_enable_soft_shutdown_on_idle": False,
        # -- logs and time -------------------------------------------------------------------------
        # Django's LOGGING (structlog) is the only place that configures logging.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
        # -- beat ----------------------------------------------------------------------------------
        "beat_schedule": BEAT_SCHEDULE,
        # Last rings are in PostgreSQL, so that beat may start on any machine; Celery's own is a file.
        "beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler",
        # Save each entry's last run at once: by default a killed beat forgets up to three minutes.
        "beat_sync_every": 1,
        # Seconds until an entry that was changed in the database is noticed, at the latest.
        "beat_max_loop_interval": 5,
        # As for workers: nobody gives beat orders by the broker.
        "beat_enable_remote_control": False,
    }


def transport_options(broker_url: str) -> dict[str, Any]:
    """What the broker's transport understands, per scheme; raises `ValueError` for an unknown scheme."""
    scheme = urlsplit(broker_url).scheme
    if scheme in ("redis", "rediss", "redis+socket"):
        options: dict[str, Any] = {
            "socket_timeout": BROKER_TIMEOUT,
            # A publish that timed out may have arrived: repeating it is the dispatcher's decision.
            "retry_on_timeout": False,
            # Seconds between checks of the long-lived connection; a half-open one is dropped then.
            "health_check_interval": 10,
            # Unacknowledged messages stay in the worker's memory. In Redis, where another worker
            # would find them after an hour, they cost four commands for each run, for a doorbell
            # that is rung again within seconds if nobody claims it.
            "ack_emulation": False,
        }
        if scheme != "redis+socket":  # a Unix socket knows neither
            options["socket_connect_timeout"] = BROKER_TIMEOUT
            options["socket_keepalive"] = True
        return options
    if scheme in ("amqp", "amqps", "pyamqp"):
        return {
            # The broker confirms each message, so a publish that returns has arrived.
            "confirm_publish": True,
            # Its socket's buffer is full: as frozen as one that does not answer.
            "write_timeout": BROKER_TIMEOUT,
            # A refused connection is reported at once: waiting is for those who have the time.
            "max_retries": 0,
        }
    raise ValueError(
        f"BROKER_URL has the scheme {scheme or 'nothing'!r}: "
        "use redis://, rediss://, redis+socket://, amqp:// or amqps://."
    )


def _queue(name: str) -> Queue:
    """A durable classic queue. Classic is enough: what it loses, the dispatcher publishes again."""
    return Queue(
        name,
        EXCHANGE,
        routing_key=name,
        durable=True,
        queue_arguments={"x-queue-type": "classic"},
    )


def _tls(broker_url: str) -> dict[str, Any] | bool:
    """Check certificates: on rediss:// unless the URL says otherwise, on amqps:// in any case.

    kombu's own default for rediss:// accepts any certificate. On amqps:// the certificate must be that
    of the host in the URL.
    """
    parts = urlsplit(broker_url)
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(parts.query):
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if parts.scheme == "amqps":
        return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
    return False
