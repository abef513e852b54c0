"""Every address of the web process, put together from the packages' own lists."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from web.accounts import admin_login

urlpatterns = [
    # Before the API: at some addresses it decides whether a page or a stream is asked for.
    path("", include("live.urls")),
    path("", include("api.urls")),
    path("", include("api.health_urls")),
    # Before the admin, whose own log-in form would be found otherwise.
    path("admin/login/", admin_login),
    path("admin/", admin.site.urls),
    path("", include("web.urls")),
]

handler400 = "web.error_pages.bad_request"
handler403 = "web.error_pages.forbidden"
handler404 = "web.error_pages.not_found"
handler500 = "web.error_pages.server_error"
