"""Logging in and out through allauth, with our own pages."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.views import LoginView, LogoutView
from django.http import HttpRequest
from django.urls import reverse


class ClosedSignup(DefaultAccountAdapter):  # type: ignore[misc]
    """Accounts are made by operators and by invitation; nobody makes one by asking."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Refuse every sign-up."""
        return False

    def get_logout_redirect_url(self, request: HttpRequest) -> str:
        """Return to the log-in page, so that the next person starts there."""
        return reverse("account_login")


class Login(LoginView):  # type: ignore[misc]
    """The log-in page; allauth limits the rate of attempts."""

    template_name = "web/login.html"

    def get_form(self, form_class: Any = None) -> Any:
        """Return allauth's form with the words and marks of our page."""
        form = super().get_form(form_class)
        form.fields["login"].label = "User name or email"
        form.fields["login"].widget.attrs.update(
            {"autofocus": True, "placeholder": "", "autocomplete": "username"}
        )
        form.fields["password"].widget.attrs["placeholder"] = ""
        if "remember" in form.fields:
            form.fields["remember"].label = "Stay logged in on this device"
        return form


class Logout(LogoutView):  # type: ignore[misc]
    """Ask, then log out; the menu of every page posts here directly."""

    template_name = "web/logout.html"
