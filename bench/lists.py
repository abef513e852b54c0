"""How long a page of the task list takes over a million tasks, for each filter and for some together.

``python -m bench.lists`` starts PostgreSQL, Valkey and one web process of its own, fills in twenty
tenants, one of which has six tasks in ten, and asks that one's list over HTTP through one kept
connection: the first page, and pages deep inside. It then asks for events and log of one task with
100,000 lines. Prints milliseconds per request.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg

from bench.report import Report, command
from bench.servers import Client, cpu_seconds, percentile, platform, request_bytes, web

TARGET_MS = 30

# Statuses as a year of work leaves them; types, people and labels in unequal shares, also rare ones.
FILL = """
INSERT INTO tenants_tenant (uid, slug, name, paused, network_permitted, is_first, version)
SELECT gen_random_uuid(), 'team-' || n, 'Team', false, false, false, 1 FROM generate_series(2, 20) n;

INSERT INTO task_type (name, title, description, queue, params_schema, handler, cancellable, idempotent,
  preemptible, steering, network, time_limit, max_retries, retry, limits, secrets, needs, on_loss,
  on_shutdown, test_only)
SELECT 'team.type' || n, '', '', 'normal', '{}', 'x:y', true, true, false, false, false, 60, 0, '{}',
       '{}', '[]', '[]', 'retry', 'requeue', false FROM generate_series(0, 40) n;

-- tasks
ALTER TABLE task DISABLE TRIGGER USER;
WITH teams AS (SELECT array_agg(id ORDER BY id) AS ids FROM tenants_tenant), made AS (
  SELECT n, now() - (%(count)s - n) * interval '30 days' / %(count)s AS at, random() AS a,
         random() AS b, random() AS c, random() AS d
    FROM generate_series(1, %(count)s) n
)
INSERT INTO task (id, tenant_id, type, queue, priority, status, life, attempt, epoch, last_seq, params,
  labels, key, key_policy, on_parent_failure, idempotent, preemptible, max_retries, retry, limits,
  inputs, secrets, submitted_by, submitter, request_id, schedule_id, cancel_requested_at,
  cancel_requested_by, cancel_reason, consumed_at, failures, losses, crashes, restarts, preemptions,
  progress_percent, progress_step, result_expired, created_at, queued_at, started_at, finished_at)
SELECT uuidv7(at - clock_timestamp()), teams.ids[CASE WHEN a < 0.6 THEN 1 ELSE 2 + n %% 19 END],
       'team.type' || (40 * b * b)::int, (ARRAY['normal', 'critical', 'batch'])[1 + n %% 3], 0,
       CASE WHEN n > %(count)s - 2000 THEN 'queued' WHEN c < 0.9 THEN 'completed'
            WHEN c < 0.96 THEN 'failed' WHEN c < 0.99 THEN 'cancelled' ELSE 'dropped' END,
       1, 1, 1, 3, '{"command": ["ruff", "check", "."]}',
       jsonb_build_object('pr', (d * 100000)::int::text, 'branch',
         CASE WHEN c < 0.7 THEN 'main' ELSE 'topic' END)
         || CASE WHEN n %% 100000 = 7 THEN '{"rare": "yes"}' ELSE '{}' END::jsonb,
       CASE WHEN d < 0.05 THEN 'key-' || n %% 1000 END, 'queue', 'cancel', true, false, 3, '{}', '{}',
       '[]', '[]', CASE WHEN n %% 200000 = 9 THEN 'user:rare' ELSE 'token:ci' || (20 * d)::int END,
       'token:1', 'request', CASE WHEN b < 0.1 THEN uuid_in(md5((n %% 50)::text)::cstring) END,
       CASE WHEN c BETWEEN 0.96 AND 0.99 THEN at END, '', '', CASE WHEN d < 0.5 THEN at END,
       0, 0, 0, 0, 0, 0, '', false, at, at, CASE WHEN n <= %(count)s - 2000 THEN at + '2 s' END,
       CASE WHEN n <= %(count)s - 2000 THEN at + '60 s' END
  FROM made, teams;
ALTER TABLE task ENABLE TRIGGER USER;

-- tasks
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, preemptible)
SELECT id, queue, tenant_id, 0, ordinal, 1, 1, false FROM task WHERE status = 'queued';
INSERT INTO dependency (child_id, parent_id)
SELECT id, before FROM (
  SELECT id, ordinal, lag(id) OVER (PARTITION BY tenant_id ORDER BY ordinal) AS before FROM task) t
 WHERE before IS NOT NULL AND ordinal %% 50 = 0;

WITH watched AS (SELECT id, tenant_id FROM task WHERE tenant_id = (SELECT min(id) FROM tenants_tenant)
                  ORDER BY ordinal LIMIT 1)
INSERT INTO log_chunk (task_id, seq, run, stream, first_line, lines, offsets)
SELECT id, 10 + n * 2, 1, (ARRAY['stdout', 'stderr'])[1 + n %% 2], n * 20,
       array_fill('a line of output number ' || n, ARRAY[20]), array_fill(5, ARRAY[20])
  FROM watched, generate_series(0, 4999) n;
WITH watched AS (SELECT id, tenant_id FROM task WHERE tenant_id = (SELECT min(id) FROM tenants_tenant)
                  ORDER BY ordinal LIMIT 1)
INSERT INTO event (task_id, seq, tenant_id, kind, run, data)
SELECT id, 11 + n * 2, tenant_id, 'progress', 1, '{"percent": 1, "step": ""}'
  FROM watched, generate_series(0, 4999) n;
"""

FACTS = """
SELECT (SELECT id FROM task WHERE tenant_id = t.id ORDER BY ordinal LIMIT 1),
       (SELECT parent_id FROM dependency d JOIN task p ON p.id = d.parent_id
         WHERE p.tenant_id = t.id LIMIT 1),
       (SELECT schedule_id FROM task WHERE tenant_id = t.id AND schedule_id IS NOT NULL LIMIT 1)
  FROM tenants_tenant t ORDER BY t.id LIMIT 1
"""
TIME = "to_char(now() AT TIME ZONE 'UTC' - %s * interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

LISTS = (
    "",
    "status=completed",
    "status=queued",
    "status=dropped",
    "status=running",
    "status=failed,dropped",
    "type=team.type3",
    "type=team.type40",
    "type=none.such",
    "type=team.*",
    "type=*type40",
    "type=none.*",
    "queue=batch",
    "label=branch=main",
    "label=pr=4711",
    "label=pr",
    "label=rare",
    "label=none=such",
    "key=key-7",
    "key=none",
    "submitted_by=token:ci7",
    "submitted_by=user:rare",
    "submitted_by=none",
    "schedule={schedule}",
    "schedule=none",
    "parent={parent}",
    "created_after={recent}",
    "created_before={old}",
    "created_after={old}&created_before={old_end}",
    "started_after={recent}",
    "started_before={old}",
    "finished_after={recent}",
    "finished_after={future}",
    "finished_before={old}",
    "finished_after={old}&finished_before={old_end}",
    "cancel_requested=true",
    "cancel_requested=false",
    "consumed=true",
    "consumed=false",
    "status=completed&consumed=false",
    "status=failed&type=team.type40",
    "status=running&type=team.type3",
    "status=failed,dropped&label=branch=topic&queue=batch",
    "label=pr=4711&status=completed",
    "submitted_by=token:ci7&status=dropped&created_before={old}",
    "type=team.type4*&submitted_by=user:rare",
)


@contextmanager
def unindexed(database: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Take a table's indexes and foreign keys away, and make them anew at the end.

    A million rows that go one by one into sixteen indexes take several times as long.
    """
    indexes = database.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
        " WHERE i.indrelid = %s::regclass AND NOT EXISTS"
        " (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid)",
        [table],
    ).fetchall()
    keys = database.execute(
        "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'f'",
        [table],
    ).fetchall()
    for name, _ in keys:
        database.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}")
    yield
    database.execute("SET maintenance_work_mem = '512MB'")
    for _, definition in indexes:
        database.execute(definition)
    for name, definition in keys:
        database.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def fill(url: str, count: int) -> dict[str, str]:
    """Fill in the tasks; gives what the addresses name."""
    tenants, tasks, rest = FILL.split("-- tasks\n")
    with psycopg.connect(url, autocommit=True) as database:
        _execute(database, tenants, count)
        with unindexed(database, "task"):
            _execute(database, tasks, count)
        _execute(database, rest, count)
        row = database.execute(FACTS).fetchone()
        assert row is not None
        names = dict(zip(("task", "parent", "schedule"), map(str, row), strict=True))
        for name, hours in (("recent", 1), ("future", -1), ("old", 600), ("old_end", 599)):
            found = database.execute(f"SELECT {TIME}", [hours]).fetchone()
            assert found is not None
            names[name] = str(found[0])
        database.execute("VACUUM ANALYZE")
    return names


def _execute(database: psycopg.Connection[Any], script: str, count: int) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            parameters = {"count": count} if "%(count)s" in statement else None
            text = statement if parameters else statement.replace("%%", "%")
            database.execute(text, parameters, prepare=False)


def ask(client: Client, path: str, token: str, times: int) -> tuple[list[float], int, str | None]:
    """Ask for a list and the next pages; gives the milliseconds, the first page's rows, its next."""
    waits = []
    for _ in range(times):
        status, body, took = client.ask(request_bytes("GET", path, token))
        if status != 200:
            raise RuntimeError(f"{path}: {status} {body[:300]!r}")
        waits.append(took)
    page = json.loads(body)
    return waits, len(page["results"]), page["next"]


def paths(names: dict[str, str]) -> list[str]:
    """Return what is asked for, below the tenant: the lists, then one task's events and log."""
    task = f"/tasks/{names['task']}"
    return [
        *(f"/tasks?{query.format(**names)}" for query in LISTS),
        *(f"{task}/{end}" for end in ("events", "events?after=9000", "events?kinds=progress")),
        *(f"{task}/{end}" for end in ("log", "log?after=9000", "log?stream=stderr&run=1")),
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down."""
    parser.add_argument("--tasks", type=int, help="by default 1,000,000")
    parser.add_argument("--times", type=int, help="requests per list, by default 20")


def run(options: argparse.Namespace) -> Report:
    """Fill in, ask, compare."""
    count = options.tasks or (50_000 if options.quick else 1_000_000)
    times = options.times or (5 if options.quick else 20)
    found: dict[str, tuple[list[float], int]] = {}
    base = "/api/v1/tenants/bench"
    with platform() as (environment, token):
        names = fill(environment["DATABASE_URL"], count)
        with web(environment) as (port, pid):
            client = Client(port)
            ask(client, f"{base}/tasks", token, 20)
            cpu = cpu_seconds(pid)
            for path in paths(names):
                address = quote(base + path, safe="/?&=,:*")
                waits, rows, following = ask(client, address, token, times)
                if following:
                    waits += ask(client, following[following.index("/api/") :], token, times)[0]
                found[path] = waits, rows
            cpu = (cpu_seconds(pid) - cpu) * 1000 / sum(len(waits) for waits, _ in found.values())
    lists = [wait for path, (waits, _) in found.items() if path.startswith("/tasks?") for wait in waits]
    report = Report(raw={path: waits for path, (waits, _) in found.items()})
    name = f"list page with filters over {count:,} tasks, p99"
    report.at_most(name, percentile(lists, 0.99), TARGET_MS, unit=" ms")
    report.say(
        f"{len(LISTS)} filters and combinations, first and second page, {times} times each; all lists "
        f"together: p50 {percentile(lists, 0.5):.1f} ms, p99 {percentile(lists, 0.99):.1f} ms. "
        f"The web process used {cpu:.1f} ms of processor per request."
    )
    report.table(
        ("list", "rows", "p50 ms", "longest ms"),
        [
            (f"`{path}`", rows, percentile(waits, 0.5), max(waits))
            for path, (waits, rows) in found.items()
        ],
    )
    return report


if __name__ == "__main__":
    command(run, __doc__, arguments)
