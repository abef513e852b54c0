"""Settings: what is taken, and the sentences about what is not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.environment import ConfigurationError, Environment, read_environment
from switchyard.bounds import Bounds
from workers.celery_settings import transport_options


def settings(**given: str) -> Environment:
    """The settings with these variables, whatever else is in the environment."""
    return Environment.model_validate(
        {
            "database_url": "postgresql:///none",
            "redis_url": "redis://127.0.0.1",
            "SWITCHYARD_SECRET_KEY": "only-for-tests-" + "0" * 40,
            **given,
        }
    )


def test_pools_are_given_as_sizes_or_ranges() -> None:
    assert settings().pool_bounds == dict.fromkeys(("critical", "normal", "batch"), Bounds(2, 2))
    given = settings(SWITCHYARD_POOLS="critical=2..8, normal=4,batch=0..4", SWITCHYARD_CAPACITY="6")
    assert given.pool_bounds == {
        "critical": Bounds(2, 8),
        "normal": Bounds(4, 4),
        "batch": Bounds(0, 4),
    }
    assert (given.capacity, settings().capacity) == (6, None)


def test_keys_may_lack_their_padding() -> None:
    whole, cut = "A" * 43 + "=", "B" * 42 + "A"
    assert settings(SWITCHYARD_ENCRYPTION_KEYS=f"{whole},{cut}").encryption_keyring == (whole, f"{cut}=")


def test_lists_may_have_spaces() -> None:
    given = settings(
        SWITCHYARD_EGRESS_ALLOW="10.0.0.0/8, 192.168.0.0/16", SWITCHYARD_EGRESS_DENY="db:5432, mail:25"
    )
    assert given.opened_networks == ("10.0.0.0/8", "192.168.0.0/16")
    assert given.services == (("127.0.0.1", 6379), ("db", 5432), ("mail", 25))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", "redis://127.0.0.1"),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("redis+socket:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("rediss://h/0", "rediss://h/0"),
        ("amqp://h//", "amqp://h//"),
        ("amqps://h//", "amqps://h//"),
        ("pyamqp://h//", "pyamqp://h//"),
    ],
)
def test_a_broker_is_redis_or_rabbitmq(given: str, read: str) -> None:
    assert settings(broker_url=given).broker == read
    assert transport_options(read)


def test_a_log_level_is_one_of_loggings_names_in_any_case() -> None:
    assert settings().log_level == "INFO"
    assert settings(SWITCHYARD_LOG_LEVEL="debug").log_level == "DEBUG"
    assert settings(SWITCHYARD_LOG_LEVEL="Warning").log_level == "WARNING"


def test_the_start_is_stopped_with_the_names_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "memory://")
    monkeypatch.setenv("SWITCHYARD_LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError) as stopped:
        read_environment()
    assert "BROKER_URL: must begin with redis://" in str(stopped.value)
    assert "SWITCHYARD_LOG_LEVEL: must be one of CRITICAL" in str(stopped.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SWITCHYARD_POOLS": "critical"}, "SWITCHYARD_POOLS takes queue=slots pairs"),
        ({"SWITCHYARD_POOLS": "critical=8..2"}, "critical: 8..2 begins above its end"),
        ({"SWITCHYARD_POOLS": "critical=2,critical=3"}, "critical is named twice"),
        ({"SWITCHYARD_POOLS": "system=2"}, "'system=2' does not begin with critical="),
        ({"SWITCHYARD_CAPACITY": "5"}, "SWITCHYARD_CAPACITY=5 is less than the 6 slots"),
        ({"SWITCHYARD_CAPACITY": "0"}, "greater than or equal to 1"),
        ({"SWITCHYARD_POOL_IDLE": "0"}, "greater than or equal to 1"),
        ({"SWITCHYARD_EGRESS_DENY": "db"}, "'db' is no host:port"),
        ({"broker_url": "memory://"}, "must begin with redis://, rediss://, unix://"),
        ({"broker_url": "127.0.0.1:6379"}, "must begin with redis://"),
        ({"SWITCHYARD_LOG_LEVEL": "loud"}, "must be one of CRITICAL"),
        ({"SWITCHYARD_LOG_LEVEL": "20"}, "must be one of CRITICAL"),
        ({"SWITCHYARD_ENCRYPTION_KEYS": "a-secret-that-is-none"}, "takes keys of 32 bytes"),
        ({"SWITCHYARD_ENCRYPTION_KEYS": "é"}, "takes keys of 32 bytes"),
    ],
)
def test_a_wrong_one_stops_the_start_with_a_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**given)
    assert sentence in str(refused.value)


def test_encryption_keys_are_given_newest_first() -> None:
    new, old = "bmV3" * 10 + "bmU=", "b2xk" * 10 + "b2w="
    assert settings(SWITCHYARD_ENCRYPTION_KEYS=f"{new}, {old}").encryption_keyring == (new, old)
    assert settings(SWITCHYARD_ENCRYPTION_KEYS="").encryption_keyring == ()
