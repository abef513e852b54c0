"""Which address links begin with."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as configured

from rest.links import came_by, site
from tests.rest.test_pagination import issue
from tests.tenants.callers import World

PUBLIC = "https://jobs.example"
OWN = "http://127.0.0.1:8000"


def use(settings: Any, public_url: str) -> None:
    settings.ALLOWED_HOSTS = ["testserver", "10.0.0.7", "[::1]"]
    settings.SWITCHYARD = configured.SWITCHYARD.model_copy(update={"public_url": public_url})


@pytest.mark.parametrize("own", [OWN, "http://localhost:9000/", "http://[::1]:8000"])
def test_a_caller_from_elsewhere_gets_links_that_lead_back_here(settings: Any, own: str) -> None:
    use(settings, own)
    with came_by("10.0.0.7:8000", secure=False):
        assert site() == "http://10.0.0.7:8000"
    with came_by("[::1]:8000", secure=True):
        assert site() == "https://[::1]:8000"
    assert site() == own.rstrip("/")


def test_a_public_address_is_everybodys(settings: Any) -> None:
    use(settings, f"{PUBLIC}/")
    with came_by("10.0.0.7:8000", secure=False):
        assert site() == PUBLIC


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:8000", "a b", "10.0.0.7:x"])
def test_no_link_leads_to_a_host_that_is_not_ours(settings: Any, host: str) -> None:
    use(settings, OWN)
    with came_by(host, secure=False):
        assert site() == OWN


@pytest.mark.django_db
def test_the_next_page_is_where_the_first_one_was(world: World, settings: Any) -> None:
    use(settings, OWN)
    caller = world.token(name="0")
    issue(world, "1", "2")
    path = f"/api/v1/tenants/{world.acme.slug}/tokens?limit=1"
    link = caller.get(path, Host="10.0.0.7:8000").json()["next"]
    assert link.startswith(f"http://10.0.0.7:8000{path}&cursor=")
    assert caller.get(path).json()["next"].startswith(f"http://testserver{path}&cursor=")
