"""CPU time between two looks: every process counts once, also those that have ended meanwhile."""

from __future__ import annotations

import os
import time

import psycopg
from django.conf import settings

from bench.accounting import Look, Seen, cpu_of, look, used


def test_what_a_worker_has_buried_were_its_supervisors() -> None:
    before: Look = {1: Seen(0, "worker main", 1.0, 10.0)}
    after: Look = {1: Seen(0, "worker main", 1.5, 14.0)}
    assert used(before, after) == {"worker main": 0.5, "supervisors and handlers": 4.0}


def test_the_time_of_before_of_a_child_that_has_ended_is_not_counted_again() -> None:
    before: Look = {
        1: Seen(0, "worker main", 0.0, 0.0),
        2: Seen(1, "supervisors and handlers", 3.0, 1.0),
    }
    # It used one second more, and all five are in what the worker has buried.
    after: Look = {1: Seen(0, "worker main", 0.0, 5.0)}
    assert used(before, after)["supervisors and handlers"] == 1.0


def test_a_process_that_is_new_counts_from_its_beginning() -> None:
    after: Look = {1: Seen(0, "web", 2.0, 0.0)}
    assert used({}, after)["web"] == 2.0


def test_a_childs_time_is_its_parents_once_it_has_ended() -> None:
    before = cpu_of([os.getpid()])
    child = os.fork()
    if not child:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        os._exit(0)
    os.waitpid(child, 0)
    assert cpu_of([os.getpid()]) - before >= 0.19


def test_a_look_finds_all_descendants() -> None:
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        with psycopg.connect(settings.SWITCHYARD.database_url) as database:
            assert look(os.getpid(), database)[child].parent == os.getpid()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
