"""Logging in and out through allauth, with our own pages."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.utils import get_next_redirect_url
from allauth.account.views import LoginView, LogoutView
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
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


def admin_login(request: HttpRequest) -> HttpResponse:
    """Send to the log-in page and back; stands where Django's admin would have a form of its own.

    That form knows neither limits of attempts nor second factors, and takes passwords also from
    somebody who is logged in already: here nobody may post to it.
    """
    target = get_next_redirect_url(request) or reverse("admin:index")
    if not request.user.is_authenticated:
        return redirect_to_login(target, reverse("account_login"))
    if not (request.user.is_staff and request.user.is_active):
        raise PermissionDenied
    return HttpResponseRedirect(target)
