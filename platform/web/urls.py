"""The addresses of the web UI; ``config.urls`` includes them at the root."""

from __future__ import annotations

from allauth.account import views as account
from django.urls import include, path

from web.accounts import Login, Logout
from web.mfa import Authenticate
from web.views.home import home
from web.views.submit import submit_calls, submit_form
from web.views.task_actions import cancel_task, retry_task
from web.views.task_list import task_list, task_rows
from web.views.task_page import log_place, older_log, task_page, task_state
from web.views.task_types import task_types

TENANT = "t/<slug:tenant>"
TASK = f"{TENANT}/tasks/<str:task_id>"

# What allauth's own views and pages name, one by one: the rest of allauth.urls sends mail, also to
# addresses that nobody here has, and nobody has told us of a server that would take it.
ACCOUNT = [
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("password/change/", account.password_change, name="account_change_password"),
    path("password/set/", account.password_set, name="account_set_password"),
    # Before allauth's own page of that name, which would answer with its looks.
    path("2fa/authenticate/", Authenticate.as_view(), name="mfa_authenticate"),
    path("2fa/", include("allauth.mfa.urls")),
]

urlpatterns = [
    path("", home, name="web_home"),
    path("login", Login.as_view(), name="account_login"),
    path("logout", Logout.as_view(), name="account_logout"),
    path("accounts/", include(ACCOUNT)),
    path(f"{TENANT}/tasks", task_list, name="web_tasks"),
    path(f"{TENANT}/tasks/rows", task_rows, name="web_task_rows"),
    path(f"{TENANT}/submit", submit_form, name="web_submit"),
    path(f"{TENANT}/submit/calls", submit_calls, name="web_submit_calls"),
    path(f"{TENANT}/task-types", task_types, name="web_task_types"),
    path(TASK, task_page, name="web_task"),
    path(f"{TASK}/state", task_state, name="web_task_state"),
    path(f"{TASK}/log/older", older_log, name="web_task_log_older"),
    path(f"{TASK}/log/place", log_place, name="web_task_log_place"),
    path(f"{TASK}/cancel", cancel_task, name="web_task_cancel"),
    path(f"{TASK}/retry", retry_task, name="web_task_retry"),
]
