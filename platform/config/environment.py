"""What an operator can set, read once from the environment.

Each variable may also be given as ``NAME_FILE``, the path of a file that holds the value, so that
passwords need not stand in a process's environment. A wrong value stops the start with a sentence
(:class:`ConfigurationError`) instead of a stack trace.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
import os
import re
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ops.services import Service, read_services, services_of
from switchyard.bounds import Bounds, WrongBounds, read_pools

Role = Literal["web", "dispatcher", "beat", "system", "pools", "worker", "manage"]

#: What a broker's URL may begin with. kombu knows more, such as ``memory://``, whose messages reach
#: nobody outside the process.
BROKERS = ("redis", "rediss", "unix", "redis+socket", "amqp", "amqps", "pyamqp")


class ConfigurationError(Exception):
    """A setting is missing or wrong; the message names it and says what it takes."""


class Environment(BaseSettings):
    """Every setting of the server, by the name of its environment variable (see README, Settings)."""

    model_config = SettingsConfigDict(extra="ignore", case_sensitive=False, frozen=True)
    # Django's settings ask each value that they give for this, and pydantic takes long to find nothing.
    _mask_wrapped: ClassVar[bool] = True

    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host:port/name")
    redis_url: str = Field(description="Redis or Valkey for channels and cache")
    broker_url: str = Field(default="", description="Celery broker; REDIS_URL when left out")

    secret_key: str = Field(alias="SWITCHYARD_SECRET_KEY", min_length=32)
    encryption_keys: str = Field(default="", alias="SWITCHYARD_ENCRYPTION_KEYS")
    allowed_hosts: str = Field(default="localhost,127.0.0.1,[::1]", alias="SWITCHYARD_ALLOWED_HOSTS")
    public_url: str = Field(default="http://127.0.0.1:8000", alias="SWITCHYARD_PUBLIC_URL")
    trusted_proxies: int = Field(default=0, alias="SWITCHYARD_TRUSTED_PROXIES", ge=0, le=10)
    role: Role = Field(default="manage", alias="SWITCHYARD_ROLE")
    state: Path = Field(default=Path(".switchyard"), alias="SWITCHYARD_STATE")
    log_format: Literal["json", "console"] = Field(default="json", alias="SWITCHYARD_LOG_FORMAT")
    log_level: str = Field(default="INFO", alias="SWITCHYARD_LOG_LEVEL")

    workspaces: Path | None = Field(default=None, alias="SWITCHYARD_WORKSPACES")
    pools: str = Field(default="critical=2,normal=2,batch=2", alias="SWITCHYARD_POOLS")
    capacity: int | None = Field(default=None, alias="SWITCHYARD_CAPACITY", ge=1, le=1024)
    pool_idle: float = Field(default=60, alias="SWITCHYARD_POOL_IDLE", ge=1)
    isolation: Literal["auto", "full", "container", "process"] = Field(
        default="auto", alias="SWITCHYARD_ISOLATION"
    )
    isolation_minimum: Literal["full", "container", "process"] = Field(
        default="process", alias="SWITCHYARD_ISOLATION_MINIMUM"
    )
    sandbox_paths: str = Field(default="", alias="SWITCHYARD_SANDBOX_PATHS")
    git_file_roots: str = Field(default="", alias="SWITCHYARD_GIT_FILE_ROOTS")
    egress_allow: str = Field(default="", alias="SWITCHYARD_EGRESS_ALLOW")
    egress_deny: str = Field(default="", alias="SWITCHYARD_EGRESS_DENY")
    test_task_types: bool = Field(default=False, alias="SWITCHYARD_TEST_TASK_TYPES")
    fault_points: str = Field(default="", alias="SWITCHYARD_FAULT_POINTS")
    maintenance: bool = Field(default=False, alias="SWITCHYARD_MAINTENANCE")
    max_body_bytes: int = Field(default=1024 * 1024, alias="SWITCHYARD_MAX_BODY", ge=1024)

    # Generous: they stop a runaway script, not a busy CI.
    request_rate: float = Field(default=500, alias="SWITCHYARD_REQUEST_RATE", gt=0)
    request_burst: int = Field(default=2000, alias="SWITCHYARD_REQUEST_BURST", ge=1)

    web_connections: int = Field(default=24, alias="SWITCHYARD_WEB_CONNECTIONS", ge=1)

    lease: float = Field(default=45, alias="SWITCHYARD_LEASE", ge=1)
    heartbeat: float = Field(default=10, alias="SWITCHYARD_HEARTBEAT", gt=0)
    dispatch_timeout: float = Field(default=15, alias="SWITCHYARD_DISPATCH_TIMEOUT", ge=0.5)
    cancel_grace: float = Field(default=10, alias="SWITCHYARD_CANCEL_GRACE", ge=0)
    preempt_after: float = Field(default=0.5, alias="SWITCHYARD_PREEMPT_AFTER", ge=0)
    max_preemptions: int = Field(default=3, alias="SWITCHYARD_MAX_PREEMPTIONS", ge=0, le=1000)
    drain: float = Field(default=60, alias="SWITCHYARD_DRAIN", ge=0)
    upload_timeout: float = Field(default=3600, alias="SWITCHYARD_UPLOAD_TIMEOUT", gt=0)

    files: str = Field(default="", alias="SWITCHYARD_FILES")
    max_input_bytes: int = Field(default=1024**3, alias="SWITCHYARD_MAX_INPUT", ge=1)
    max_artifacts: int = Field(default=500, alias="SWITCHYARD_MAX_ARTIFACTS", ge=0)
    max_artifact_bytes: int = Field(default=1024**3, alias="SWITCHYARD_MAX_ARTIFACT_BYTES", ge=0)
    result_retention: float = Field(default=30 * 24 * 3600, alias="SWITCHYARD_RESULT_RETENTION", gt=0)
    history_retention: float = Field(default=0, alias="SWITCHYARD_HISTORY_RETENTION", ge=0)

    @field_validator("database_url")
    @classmethod
    def _postgresql_only(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql:// (Switchyard runs on PostgreSQL only)")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_only(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_between_processes(cls, value: str) -> str:
        if value and value.partition("://")[0] not in BROKERS:
            raise ValueError(f"must begin with {', '.join(f'{name}://' for name in BROKERS)}")
        return value

    @field_validator("log_level")
    @classmethod
    def _level_of_logging(cls, value: str) -> str:
        levels = logging.getLevelNamesMapping()
        if value.upper() not in levels:
            raise ValueError(f"must be one of {', '.join(levels)}")
        return value.upper()

    @field_validator("encryption_keys")
    @classmethod
    def _keys(cls, value: str) -> str:
        for part in _parts(value, ","):
            try:
                whole = len(base64.b64decode(_padded(part), altchars=b"-_", validate=True)) == 32
            except ValueError:
                whole = False
            if not whole:
                raise ValueError("takes keys of 32 bytes in URL-safe base64, separated by commas")
        return value

    @field_validator("files")
    @classmethod
    def _folder_or_bucket(cls, value: str) -> str:
        if "://" in value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/.*)?", value):
            raise ValueError("must be a folder, or s3://bucket/prefix")
        if value.startswith("s3://") and find_spec("storages") is None:
            raise ValueError("needs django-storages for s3://: pip install 'switchyard[s3]'")
        return value

    @field_validator("egress_allow")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in _parts(value, ","):
            ipaddress.ip_network(part)
        return value

    @field_validator("egress_deny")
    @classmethod
    def _services(cls, value: str) -> str:
        read_services(_parts(value, ","))
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Environment:
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                "SWITCHYARD_HEARTBEAT must be at most half of SWITCHYARD_LEASE, or one late "
                "renewal would lose the run"
            )
        if self.fault_points and not self.test_task_types:
            raise ValueError(
                "SWITCHYARD_FAULT_POINTS is for tests: it needs SWITCHYARD_TEST_TASK_TYPES=1"
            )
        least = sum(bounds.least for bounds in self.pool_bounds.values())
        if self.capacity is not None and self.capacity < least:
            raise ValueError(
                f"SWITCHYARD_CAPACITY={self.capacity} is less than the {least} slots that "
                "SWITCHYARD_POOLS has at the least"
            )
        return self

    @cached_property
    def broker(self) -> str:
        """The broker's URL, in the form that kombu reads (``unix://`` becomes ``redis+socket://``)."""
        url = self.broker_url or self.redis_url
        return re.sub(r"^unix://", "redis+socket://", url)

    @cached_property
    def pool_bounds(self) -> dict[str, Bounds]:
        """Queue name to the slots that this machine gives it, until an operator scales the pool.

        A queue that is left out is not served by this machine.
        """
        try:
            return read_pools(_parts(self.pools, ","))
        except WrongBounds as error:
            raise ValueError(
                "SWITCHYARD_POOLS takes queue=slots pairs, such as critical=2..8,normal=4,batch=0..4; "
                f"{error}"
            ) from None

    @cached_property
    def hosts(self) -> list[str]:
        """Host names that the web process answers to."""
        return _parts(self.allowed_hosts, ",")

    @cached_property
    def opened_networks(self) -> tuple[str, ...]:
        """Private networks that permitted handlers may reach (``SWITCHYARD_EGRESS_ALLOW``)."""
        return tuple(_parts(self.egress_allow, ","))

    @cached_property
    def encryption_keyring(self) -> tuple[str, ...]:
        """Keys of what is stored encrypted: the first encrypts, all of them decrypt."""
        return tuple(_padded(part) for part in _parts(self.encryption_keys, ","))

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """What no task is led to at level `full`: our own services, and ``SWITCHYARD_EGRESS_DENY``."""
        urls = (self.database_url, self.redis_url, self.broker_url)
        own = [service for url in urls for service in services_of(url)]
        return tuple(dict.fromkeys([*own, *read_services(_parts(self.egress_deny, ","))]))

    @cached_property
    def toolchains(self) -> tuple[Path, ...]:
        """Directories that handlers may read and execute (``SWITCHYARD_SANDBOX_PATHS``)."""
        return tuple(Path(part) for part in _parts(self.sandbox_paths, os.pathsep))

    @cached_property
    def git_roots(self) -> tuple[Path, ...]:
        """Directories below which ``file:`` sources are allowed (``SWITCHYARD_GIT_FILE_ROOTS``)."""
        return tuple(Path(part) for part in _parts(self.git_file_roots, os.pathsep))

    @cached_property
    def workspace_root(self) -> Path:
        """Where runs get their private directories."""
        return self.workspaces or self.state / "workspaces"

    @cached_property
    def private_folders(self) -> tuple[Path, ...]:
        """Where the platform and its runs write: no source is checked out from there."""
        return (self.state, self.workspace_root, self.files_folder)

    @cached_property
    def files_folder(self) -> Path:
        """Where inputs and artifacts are kept, unless a bucket is named."""
        return Path(self.files) if self.files else self.state / "files"


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _padded(key: str) -> str:
    """Return base64 with the padding that ``secrets.token_urlsafe`` leaves out."""
    return key + "=" * (-len(key) % 4)


def read_environment() -> Environment:
    """Read and check all settings.

    Raises:
        ConfigurationError: naming each variable that is missing or wrong.
    """
    _read_files()
    try:
        return Environment.model_validate({})
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0]).upper() if item["loc"] else ""
            told = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {told}" if name else told)
        raise ConfigurationError("Wrong settings. " + "; ".join(lines)) from None


def _read_files() -> None:
    """Turn each ``NAME_FILE`` of ours into ``NAME``; the file's last newline is not part of it."""
    known = {(field.alias or name).upper() for name, field in Environment.model_fields.items()}
    for name in known:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            try:
                os.environ[name] = Path(path).read_text(encoding="utf-8").rstrip("\n")
            except OSError as error:
                raise ConfigurationError(f"{name}_FILE: cannot read {path} ({error.strerror})") from None
