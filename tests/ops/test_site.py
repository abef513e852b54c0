"""What `up` gives its components: whatever the caller set, and what cannot be left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.http.request import split_domain_port, validate_host

from ops.accounts import choose_accounts
from ops.pools.workers import seconds_to_stop
from ops.up.components import drain_seconds
from ops.up.site import Site, component_environment
from ops.up.state import State, StateError

NAME = "SWITCHYARD_ALLOWED_HOSTS"


def site_at(folder: Path, host: str) -> Site:
    """A platform that is not started."""
    state = State(folder)
    state.make()
    accounts = choose_accounts()
    state.make_folders(accounts)
    return Site(state, accounts, None, host, 8000)


def answers_to(environment: dict[str, str], address: str) -> bool:
    """Whether the web process accepts requests for an address."""
    assert f"{NAME}_FILE" not in environment
    allowed = environment[NAME].split(",")
    return validate_host(split_domain_port(address)[0], allowed)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "192.0.2.7", "box.example"])
@pytest.mark.parametrize("as_file", [False, True])
def test_names_of_the_callers_own_do_not_shut_up_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, as_file: bool
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv(f"{NAME}_FILE", raising=False)
    if as_file:
        (tmp_path / "names").write_text("jobs.example\n")
        monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "names"))
    else:
        monkeypatch.setenv(NAME, "jobs.example")
    site = site_at(tmp_path / "state", host)
    environment = component_environment(site, {})
    for address in ("jobs.example", site.url.partition("//")[2], "localhost:8000", "127.0.0.1:8000"):
        assert answers_to(environment, address), address
    assert not answers_to(environment, "elsewhere.example")


def test_the_time_to_stop_is_also_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "drain").write_text("300\n")
    (tmp_path / "grace").write_text("30\n")
    environment = {
        "SWITCHYARD_DRAIN_FILE": str(tmp_path / "drain"),
        "SWITCHYARD_CANCEL_GRACE_FILE": str(tmp_path / "grace"),
    }
    assert drain_seconds(environment) == seconds_to_stop(300, 30)
    assert drain_seconds(environment | {"SWITCHYARD_DRAIN": "20"}) == seconds_to_stop(20, 30)
    with pytest.raises(StateError, match="SWITCHYARD_DRAIN_FILE: cannot read"):
        drain_seconds({"SWITCHYARD_DRAIN_FILE": str(tmp_path / "missing")})
