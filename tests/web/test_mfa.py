"""Secrets of second factors: encrypted at rest, under keys that can be replaced."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from cryptography.fernet import Fernet
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = "JBSWY3DPEHPK3PXP"


def use(django_settings: object, *keys: str, secret_key: str = "s" * 50) -> None:
    """Have the platform run with these encryption keys, newest first."""
    django_settings.SWITCHYARD = SimpleNamespace(  # type: ignore[attr-defined]
        encryption_keyring=keys, secret_key=secret_key
    )


def test_a_secret_comes_back_and_does_not_show() -> None:
    stored = get_adapter().encrypt(SECRET)
    assert SECRET not in stored
    assert get_adapter().decrypt(stored) == SECRET
    assert get_adapter().encrypt(SECRET) != stored


@pytest.mark.django_db
def test_secrets_stored_in_plain_text_before_still_work() -> None:
    user = User.objects.create(username="old")
    row = Authenticator.objects.create(user=user, type="totp", data={"secret": SECRET})
    code = format_hotp_value(hotp_value(SECRET, int(time.time()) // 30))
    assert not TOTP(row).validate_code("000000x")
    assert TOTP(row).validate_code(code)


def test_a_new_key_encrypts_and_the_old_ones_still_read(settings: object) -> None:
    use(settings, OLD)
    before = get_adapter().encrypt(SECRET)
    use(settings, NEW, OLD)
    assert get_adapter().decrypt(before) == SECRET
    after = get_adapter().encrypt(SECRET)
    use(settings, NEW)
    assert get_adapter().decrypt(after) == SECRET
    with pytest.raises(ValidationError, match="cannot be read"):
        get_adapter().decrypt(before)


def test_without_keys_one_is_derived_from_the_secret_key_and_stays_readable(settings: object) -> None:
    use(settings)
    stored = get_adapter().encrypt(SECRET)
    assert SECRET not in stored
    use(settings, NEW)
    assert get_adapter().decrypt(stored) == SECRET
    use(settings, secret_key="t" * 50)
    with pytest.raises(ValidationError, match="cannot be read"):
        get_adapter().decrypt(stored)


def test_the_tests_run_with_a_key_of_their_own() -> None:
    assert len(settings.SWITCHYARD.encryption_keyring) == 1
