"""The first page: straight to the only tenant, or a choice of tenants."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from tenants.authentication import authenticate_session
from web.access import tenants_of


def home(request: HttpRequest) -> HttpResponse:
    """Go to the task list where there is no choice to make."""
    actor = authenticate_session(request.user)
    if actor is None:
        return redirect_to_login("/", settings.LOGIN_URL)
    tenants = tenants_of(actor)
    if len(tenants) == 1:
        return redirect("web_tasks", tenant=tenants[0].slug)
    return render(request, "web/home.html", {"tenants": tenants, "actor": actor})
