"""docker/ cannot be run in every place where the tests run, so what can be read is checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.contrib.auth import authenticate
from django.db import connection
from django.http.request import split_domain_port, validate_host

from config.environment import Environment
from ops.pools.workers import seconds_to_stop
from ops.up.components import POOL_MARGIN
from tenants.models import Tenant
from tests.tenants.callers import the_trail_may_be_emptied_between_tests

__all__ = ["the_trail_may_be_emptied_between_tests"]

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


def asked_host(check: list[str]) -> str:
    """The Host header that a health check in Python sends, found by running it without a network."""
    assert check[:3] == ["CMD", "python", "-c"]
    recorded = (
        "import urllib.request as real;"
        "real.urlopen = lambda asked, timeout: print("
        "real.Request(asked).host if isinstance(asked, str) else asked.get_header('Host', asked.host));"
    )
    done = subprocess.run(
        [sys.executable, "-c", recorded + check[3]], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("domain", ["localhost", "jobs.example"])
def test_the_health_checks_of_web_ask_for_a_host_that_it_answers_to(
    compose: dict[str, Any], domain: str
) -> None:
    service = compose["services"]["web"]
    named = service["environment"]["SWITCHYARD_ALLOWED_HOSTS"]
    allowed = named.replace("${SWITCHYARD_DOMAIN:-localhost}", domain).split(",")
    # Caddy's own check goes to the address of the upstream, and names it.
    upstream = re.search(r"reverse_proxy (\S+)", (DOCKER / "Caddyfile").read_text())
    assert upstream is not None
    for host in (asked_host(service["healthcheck"]["test"]), upstream[1], domain):
        assert validate_host(split_domain_port(host)[0], allowed), host
    assert not validate_host("elsewhere.example", allowed)


def test_the_server_that_makes_the_database_does_not_count_as_postgresql(
    compose: dict[str, Any],
) -> None:
    # The image makes the database with a server that listens on its socket alone, and ends that again.
    check = compose["services"]["postgres"]["healthcheck"]["test"][1].split()
    assert check[0] == "pg_isready"
    assert check[check.index("-h") + 1] == "127.0.0.1"


@pytest.mark.django_db(transaction=True)
def test_the_first_tenant_user_and_tokens_are_made_by_a_script(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    """The script is run with a `docker` that does in this checkout what the container would do."""
    service = compose["services"]["migrate"]
    assert service["environment"]["SWITCHYARD_ROLE"] == "manage"
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/usr/bin/env bash\n"
        f'[ "$1 $2 $3" = "compose -f {DOCKER}/compose.yaml" ] || exit 98\n'
        '[ "$4 $5 $6 $7" = "run --rm -T migrate" ] || exit 97\n'
        f'cd {DOCKER.parent} && exec "${{@:8}}"\n'
    )
    docker.chmod(0o755)
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "DATABASE_URL": database.geturl(),
        "PATH": f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [str(DOCKER / "first-start")],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert list(told) == ["tenant", "token", "operator_token", "user", "password"]
    assert authenticate(username=told["user"], password=told["password"]) is not None
    assert Tenant.objects.filter(slug=told["tenant"], is_first=True).exists()


def compressed_types() -> list[str]:
    """The content types that the Caddyfile has compressed, as it writes them."""
    text = (DOCKER / "Caddyfile").read_text()
    block = re.search(
        r"^\tencode zstd gzip \{\n.*?\n\t\tmatch \{\n(.*?)\n\t\t\}\n\t\}$", text, re.M | re.S
    )
    assert block is not None
    lines = block[1].split("\n")
    # A matcher of responses knows only these two words, and no `not`.
    words = [line.split() for line in lines]
    assert {word[0] for word in words} <= {"header", "status"}
    assert all(word[1] == "Content-Type" and len(word) == 3 for word in words if word[0] == "header")
    return [word[2] for word in words if word[0] == "header"]


@pytest.mark.parametrize(
    ("kind", "is_compressed"),
    [
        ("application/json", True),
        ("application/problem+json", True),
        ("application/vnd.oai.openapi+json", True),
        ("text/html; charset=utf-8", True),
        ("text/css; charset=utf-8", True),
        ("text/javascript; charset=utf-8", True),
        ("text/plain; charset=utf-8", True),
        ("image/svg+xml", True),
        ("text/event-stream", False),
        ("text/event-stream; charset=utf-8", False),
        ("application/octet-stream", False),
    ],
)
def test_caddy_compresses_pages_and_answers_and_no_streams(kind: str, is_compressed: bool) -> None:
    assert any(fnmatchcase(kind, pattern) for pattern in compressed_types()) is is_compressed


@pytest.mark.skipif(shutil.which("caddy") is None, reason="there is no caddy here")
def test_caddy_takes_its_file() -> None:
    done = subprocess.run(
        ["caddy", "adapt", "--config", str(DOCKER / "Caddyfile"), "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


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


def test_a_folder_that_is_there_already_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    subprocess.run([str(DOCKER / "make-secrets"), str(folder)], check=True, timeout=20)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("script", ["make-secrets", "first-start"])
def test_the_script_can_be_run(script: str) -> None:
    assert os.access(DOCKER / script, os.X_OK)
