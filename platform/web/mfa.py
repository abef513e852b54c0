"""Second factors: their secrets are stored encrypted, and asked for on a page of ours."""

from __future__ import annotations

import base64
import hmac

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base.views import AuthenticateView
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ValidationError

# What allauth stored before there was a key is base32 or hexadecimal and has no colon.
MARK = "fernet:"
UNREADABLE = "The stored second factor cannot be read: its key is missing. Ask an operator."


class EncryptedFactors(DefaultMFAAdapter):  # type: ignore[misc]
    """Whoever reads a table or a backup must not be able to compute codes."""

    def encrypt(self, text: str) -> str:
        """Encrypt under the newest key."""
        return MARK + _keyring().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Read what any of the keys has encrypted, and what was stored before in plain text.

        Raises:
            ValidationError: none of the keys has encrypted it.
        """
        if not encrypted_text.startswith(MARK):
            return encrypted_text
        try:
            return _keyring().decrypt(encrypted_text.removeprefix(MARK)).decode()
        except InvalidToken:
            # An empty secret in its place would be one that everybody can compute codes of.
            raise ValidationError(UNREADABLE, code="unreadable") from None


class Authenticate(AuthenticateView):  # type: ignore[misc]
    """The page that asks for the code; allauth limits the rate of attempts."""

    template_name = "web/authenticate.html"


def _keyring() -> MultiFernet:
    """Return the operator's keys, newest first, and last the one that stands in where there are none.

    It stays readable, so that keys can be set on a platform that has run without.
    """
    secret = settings.SWITCHYARD.secret_key.encode()
    derived = hmac.digest(secret, b"switchyard second factors", "sha256")
    keys = [*settings.SWITCHYARD.encryption_keyring, base64.urlsafe_b64encode(derived).decode()]
    return MultiFernet([Fernet(key) for key in keys])
