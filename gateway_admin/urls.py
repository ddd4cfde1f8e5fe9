"""Every route of the control plane."""

from django.urls import URLPattern, URLResolver, include, path

import access_keys.views
import account_settings.views
import accounts.views
import configurations.views
import provider_keys.views
import providers.catalog_views
import providers.views
import snapshots.views
import usage.views
from dashboard import sign_in
from dashboard.site import site as dashboard
from gateway_admin.health import HealthViews, ReadinessViews
from gateway_admin.metrics import MetricsViews
from rest.documents import DocumentViews, ReaderView

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", HealthViews.as_view({"get": "retrieve"}), name="healthz"),
    path("readyz", ReadinessViews.as_view({"get": "retrieve"}), name="readyz"),
    path("metrics", MetricsViews.as_view({"get": "retrieve"}), name="metrics"),
    path("openapi.json", DocumentViews.as_view({"get": "retrieve"}), name="openapi"),
    path("docs", ReaderView.as_view(), name="docs"),
    *access_keys.views.ROUTES,
    *configurations.views.ROUTES,
    *provider_keys.views.ROUTES,
    *providers.views.ROUTES,
    *providers.catalog_views.ROUTES,
    *accounts.views.ROUTES,
    *account_settings.views.ROUTES,
    *usage.views.ROUTES,
    *snapshots.views.ROUTES,
    path("dashboard/", include(sign_in.ROUTES)),
    path("dashboard/", dashboard.urls),
]

handler400 = "rest.errors.request_refused"
handler403 = "rest.errors.permission_refused"
handler404 = "rest.errors.route_unknown"
handler500 = "dashboard.error_pages.failed"
