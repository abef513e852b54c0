"""The whole tree below ``/api/v1/``; each package below brings its own part.

``config.urls`` includes this at the root. No address ends with a slash, but for a tenant's own.
"""

from __future__ import annotations

from django.urls import include, path

from api.documentation import Docs, Schema
from api.metrics import Metrics
from api.operator_tenants import OperatorTenant, OperatorTenants, TenantPause, TenantResume
from api.operator_urls import urlpatterns as platform_operator
from tasks.api.urls import operator_urlpatterns as tasks_operator
from tasks.api.urls import tenant_urlpatterns as tasks_tenant
from tenants.api.urls import tenant_urlpatterns as tenants_tenant
from tenants.api.urls import urlpatterns as tenants_outside

app_name = "api"

operator = [
    path("tenants", OperatorTenants.as_view(), name="operator-tenants"),
    path("tenants/<name:slug>", OperatorTenant.as_view(), name="operator-tenant"),
    path("tenants/<name:slug>/pause", TenantPause.as_view(), name="operator-tenant-pause"),
    path("tenants/<name:slug>/resume", TenantResume.as_view(), name="operator-tenant-resume"),
    *platform_operator,
    *tasks_operator,
]

urlpatterns = [
    path("metrics", Metrics.as_view(), name="metrics"),
    path(
        "api/v1/",
        include(
            [
                path("schema", Schema.as_view(), name="schema"),
                path("docs", Docs.as_view(), name="docs"),
                *tenants_outside,
                path("tenants/<name:tenant>/", include([*tenants_tenant, *tasks_tenant])),
                path("operator/", include(operator)),
            ]
        ),
    ),
]
