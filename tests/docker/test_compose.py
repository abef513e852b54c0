"""docker/ cannot be run in every place where the tests run, so what can be read is checked."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.environment import Environment
from ops.pools.workers import seconds_to_stop
from ops.up.components import POOL_MARGIN

DOCKER = Path(__file__).resolve().parents[2] / "docker"
OURS = ("migrate", "web", "dispatcher", "beat", "system", "critical", "normal", "batch")
POOLS = ("critical", "normal", "batch")
SECRETS = ("DATABASE_URL", "REDIS_URL", "SWITCHYARD_SECRET_KEY", "SWITCHYARD_ENCRYPTION_KEYS")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The parsed compose file, with its anchors and merges resolved."""
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def seconds(text: str) -> int:
    """Read compose's ``120s``."""
    assert re.fullmatch(r"\d+s", text)
    return int(text[:-1])


def test_every_part_of_the_platform_is_a_service(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, "postgres", "valkey", "caddy"}


def test_the_servers_are_the_versions_that_the_embedded_ones_have(compose: dict[str, Any]) -> None:
    assert compose["services"]["postgres"]["image"] == "postgres:18"
    assert compose["services"]["valkey"]["image"] == "valkey/valkey:9"


@pytest.mark.parametrize("name", OURS)
def test_secrets_come_as_files_only(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    environment = service["environment"]
    for secret in SECRETS:
        assert secret not in environment
        path = environment[f"{secret}_FILE"]
        mounted = path.removeprefix("/run/secrets/")
        assert mounted in service["secrets"]
        assert mounted in compose["secrets"]


@pytest.mark.parametrize("name", OURS)
def test_all_share_the_files_of_tasks(compose: dict[str, Any], name: str) -> None:
    assert "files:/var/lib/switchyard/files" in compose["services"][name]["volumes"]
    assert "files" in compose["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_only_known_settings_are_set(compose: dict[str, Any], name: str) -> None:
    known = {(field.alias or key).upper() for key, field in Environment.model_fields.items()}
    known |= {"SWITCHYARD_WORKER_FILE"}
    for variable in compose["services"][name]["environment"]:
        assert variable.removesuffix("_FILE") in known or variable in known


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_may_drain_before_docker_kills_it(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    drain = float(service["environment"]["SWITCHYARD_DRAIN"])
    grace = float(Environment.model_fields["cancel_grace"].default)
    assert seconds(service["stop_grace_period"]) > seconds_to_stop(drain, grace) + POOL_MARGIN
    assert service["environment"]["SWITCHYARD_POOLS"].startswith(f"{name}=")


@pytest.mark.parametrize("name", ["postgres", "valkey", "web", "system", "caddy", *POOLS])
def test_what_serves_says_whether_it_is_healthy(compose: dict[str, Any], name: str) -> None:
    check = compose["services"][name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert seconds(check["timeout"]) <= seconds(check["interval"])


def test_nothing_starts_before_the_database_is_migrated(compose: dict[str, Any]) -> None:
    for name in set(OURS) - {"migrate"}:
        waits = compose["services"][name]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully"
    assert compose["services"]["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_databases_are_on_a_network_without_a_way_out(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inside"]["internal"] is True
    for name in ("postgres", "valkey"):
        assert compose["services"][name]["networks"] == ["inside"]
        assert "ports" not in compose["services"][name]


def test_the_broker_forgets_nothing(compose: dict[str, Any]) -> None:
    command = " ".join(compose["services"]["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_runs_unprivileged_under_an_init() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+(?: AS \w+)?$", text, re.MULTILINE)
    assert len(stages) == 2
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER switchyard$", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tini"', last, re.MULTILINE)
    assert "--require-hashes" in text


def test_caddy_passes_streams_on_at_once(compose: dict[str, Any]) -> None:
    text = (DOCKER / "Caddyfile").read_text()
    assert "reverse_proxy web:8000" in text
    assert "flush_interval -1" in text
    assert text.count("{") == text.count("}")
    mounted = [part.partition(":")[0] for part in compose["services"]["caddy"]["volumes"]]
    assert "./Caddyfile" in mounted


def test_the_web_process_believes_the_one_proxy_before_it(compose: dict[str, Any]) -> None:
    assert compose["services"]["web"]["environment"]["SWITCHYARD_TRUSTED_PROXIES"] == "1"
    assert Environment.model_fields["trusted_proxies"].default == 0
    # Nobody reaches it but through Caddy, which replaces what visitors write into these headers.
    assert compose["services"]["web"]["networks"] == ["inside"]
    assert "ports" not in compose["services"]["web"]
    assert "trusted_proxies" not in (DOCKER / "Caddyfile").read_text()


def test_the_secrets_are_made_once_and_fit_the_settings(compose: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    script = str(DOCKER / "make-secrets")
    subprocess.run([script, str(folder)], check=True, timeout=20)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(compose["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made["database_password"] in made["database_url"]
    settings = Environment(
        database_url=made["database_url"],
        redis_url=made["redis_url"],
        broker_url="",
        SWITCHYARD_SECRET_KEY=made["secret_key"],
        SWITCHYARD_ENCRYPTION_KEYS=made["encryption_keys"],
    )
    assert settings.broker.startswith("redis://")
    subprocess.run([script, str(folder)], check=True, timeout=20)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_the_script_can_be_run() -> None:
    assert os.access(DOCKER / "make-secrets", os.X_OK)
