"""Every address of the web process, put together from the packages' own lists."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    # Before the API: at some addresses it decides whether a page or a stream is asked for.
    path("", include("live.urls")),
    path("", include("api.urls")),
    path("", include("api.health_urls")),
    path("admin/", admin.site.urls),
    # Addresses that allauth's own views name; log-in and log-out are the web UI's, which come later
    # in this list because the last pattern of a name is the one that links lead to.
    path("accounts/", include("allauth.urls")),
    path("", include("web.urls")),
]

handler400 = "web.error_pages.bad_request"
handler403 = "web.error_pages.forbidden"
handler404 = "web.error_pages.not_found"
handler500 = "web.error_pages.server_error"
