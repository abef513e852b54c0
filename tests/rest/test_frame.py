"""Request ids, ETags, names, times and rates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.test import RequestFactory

from rest.errors import PreconditionFailed, PreconditionRequired, ValidationFailed
from rest.etags import etag, require_match
from rest.fields import parse_time
from rest.text import TextRefused, clean_slug, clean_text
from rest.throttling import Bucket
from rest.times import rfc3339
from tests.tenants.callers import World


@pytest.mark.parametrize("offered", ["abc", "A-1_2.z", "x" * 128])
def test_a_good_request_id_is_echoed(world: World, offered: str) -> None:
    assert world.anonymous().get("/api/v1/me", X_Request_ID=offered)["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "x" * 129, "a b", "a\x1b[2J", "\u00e9"])
def test_a_request_id_that_could_forge_a_log_line_is_replaced(world: World, offered: str) -> None:
    given = world.anonymous().get("/api/v1/me", X_Request_ID=offered)["X-Request-ID"]
    assert given != offered
    assert len(given) == 36


def test_if_match_compares_strongly() -> None:
    def sent(value: str | None) -> Any:
        headers = {} if value is None else {"If-Match": value}
        return RequestFactory().put("/", headers=headers)

    assert etag(3) == '"3"'
    for fine in ('"3"', "*", '"1", "3"'):
        require_match(sent(fine), 3)
    for stale in ('"2"', 'W/"3"', '"1", "2"'):
        with pytest.raises(PreconditionFailed):
            require_match(sent(stale), 3)
    for wrong in ("3", '"3', ""):
        with pytest.raises(ValidationFailed):
            require_match(sent(wrong), 3)
    with pytest.raises(PreconditionRequired):
        require_match(sent(None), 3)
    require_match(sent(None), 3, required=False)
    require_match(sent(None), None)
    for meant in ('"3"', "*"):
        with pytest.raises(PreconditionFailed):
            require_match(sent(meant), None)


@pytest.mark.parametrize(
    "slug",
    ["admin", "api", "..", "null", "-a", "a-", "a--b", "a_b", "a b", "a\n", "\u0430cme", "x" * 51, ""],
)
def test_a_slug_that_could_be_mistaken_is_refused(slug: str) -> None:
    with pytest.raises(TextRefused):
        clean_slug(slug)


def test_capital_letters_of_a_slug_are_made_small() -> None:
    assert clean_slug("Acme-2") == "acme-2"


def test_a_name_is_stored_in_one_form() -> None:
    assert clean_text(" cafe\u0301 ", max_length=10) == "caf\u00e9"
    assert clean_text("a\nb", max_length=10, lines=True) == "a\nb"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T09:30:00",
        "2026-11-21",
        "2026-11-21 09:30:00Z",
        "2026-13-21T09:30:00Z",
        "2026-11-21T09:30:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "20\u0662\u0666-11-21T09:30:00Z",
        "1763717400",
    ],
)
def test_a_time_without_a_zone_or_form_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_times_are_written_in_utc() -> None:
    moment = parse_time("2026-11-21T10:30:00+01:00")
    assert rfc3339(moment) == "2026-11-21T09:30:00Z"
    assert rfc3339(None) is None
    with pytest.raises(ValueError, match="zone"):
        rfc3339(datetime(2026, 1, 1))
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"


def test_above_the_request_rate_one_waits_and_others_do_not() -> None:
    bucket = Bucket(settings.SWITCHYARD.redis_url, rate=0.1, burst=3)
    bucket.client.delete("switchyard:rate:test:1", "switchyard:rate:test:2")
    assert [bucket.take("test:1") for _ in range(3)] == [0, 0, 0]
    assert 0 < bucket.take("test:1") <= 10
    assert bucket.take("test:2") == 0


def test_far_from_its_rate_a_client_costs_redis_little() -> None:
    bucket = Bucket(settings.SWITCHYARD.redis_url, rate=500, burst=2000)
    bucket.client.delete("switchyard:rate:test:3")
    before = bucket.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    assert [bucket.take("test:3") for _ in range(40)] == [0] * 40
    asked = bucket.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    # Twenty requests each time; another process's tests, and a second gone by, may add a few.
    assert asked < 30
    assert float(bucket.client.hget("switchyard:rate:test:3", "level")) <= 2000 - 20


def test_without_redis_everybody_passes_and_only_the_first_waits() -> None:
    bucket = Bucket("redis://127.0.0.1:1/0", rate=0.1, burst=1)
    assert bucket.take("x") == 0
    assert bucket.resume_at > 0
    assert [bucket.take("x") for _ in range(100)] == [0] * 100


def test_over_the_rate_the_answer_is_429_with_retry_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "take", lambda self, key: 2.5)
    answer = world.token().get("/api/v1/me")
    assert (answer.status_code, answer["Retry-After"]) == (429, "3")
    assert (answer.json()["code"], answer.json()["limit"]) == ("request_rate", "request_rate")
