"""The door of every page below ``/t/{tenant}/``, and what the pages know about their visitor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from rest.database_errors import outage_problem
from rest.errors import Problem
from rest.links import site
from tasks.api.permissions import WRITE, may_change_all
from tasks.models import Task
from tasks.selectors.tasks import is_submitter
from tenants.access import enter, require
from tenants.actor import Actor
from tenants.authentication import authenticate_session
from tenants.models import Membership, Tenant
from web.error_pages import problem_page

P = ParamSpec("P")


@dataclass(frozen=True)
class Visit:
    """One request of one member (or operator) inside one tenant."""

    request: HttpRequest
    tenant: Tenant
    actor: Actor

    @property
    def may_submit(self) -> bool:
        """Tell whether the visitor may submit tasks here."""
        return self.actor.can(WRITE)

    def may_change(self, task: Task) -> bool:
        """Tell whether the visitor may cancel or retry this task: the rule of the API."""
        own = self.actor.can(WRITE) and is_submitter(self.actor, task)
        return own or may_change_all(self.actor)

    @property
    def may_force(self) -> bool:
        """Tell whether the visitor may kill a run that cannot be cancelled."""
        return may_change_all(self.actor)

    def render(
        self, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
    ) -> HttpResponse:
        """Render a template, which finds ``visit``, ``tenant`` and ``tenants`` besides its own."""
        return render(
            self.request,
            template,
            {
                "visit": self,
                "tenant": self.tenant,
                "tenants": tenants_of(self.actor),
                "public_url": site(),
                **(context or {}),
            },
            status=status,
        )


def tenants_of(actor: Actor) -> list[Tenant]:
    """Return the tenants in which the visitor is a member; an operator also has the first one."""
    memberships = Membership.objects.select_related("tenant").order_by("tenant__slug")
    mine = [row.tenant for row in memberships.filter(user_id=actor.user_id or 0)]
    if actor.operator:
        known = {tenant.pk for tenant in mine}
        mine += Tenant.objects.filter(is_first=True).exclude(pk__in=known)
    return mine


def member_page(
    scope: str,
) -> Callable[[Callable[Concatenate[Visit, P], HttpResponse]], Callable[..., HttpResponse]]:
    """Let a view be seen by who holds ``scope`` in the tenant of its address.

    Anonymous visitors go to the log-in page and come back; a foreign or unknown tenant is 404.
    A :class:`Problem` that the view raises becomes a page, and so does an outage of the database.
    """

    def decorate(
        view: Callable[Concatenate[Visit, P], HttpResponse],
    ) -> Callable[..., HttpResponse]:
        @wraps(view)
        def page(request: HttpRequest, tenant: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            try:
                actor = authenticate_session(request.user)
                if actor is None:
                    return to_login(request)
                home, inside = enter(actor, tenant, method=str(request.method))
                require(inside, scope)
                response = view(Visit(request, home, inside), *args, **kwargs)
            except Problem as problem:
                return problem_page(request, problem)
            except (OperationalError, InterfaceError) as outage:
                return problem_page(request, outage_problem(outage))
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return page

    return decorate


def to_login(request: HttpRequest) -> HttpResponse:
    """Send an anonymous visitor to the log-in page; a fragment's request moves the whole page."""
    if request.headers.get("HX-Request"):
        shown = request.headers.get("HX-Current-URL", "")
        path = "/" + shown.split("/", 3)[3] if shown.count("/") >= 3 else "/"
        answer = HttpResponse(status=204)
        answer["HX-Redirect"] = redirect_to_login(path, settings.LOGIN_URL)["Location"]
        return answer
    return redirect_to_login(request.get_full_path(), settings.LOGIN_URL)
