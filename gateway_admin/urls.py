"""Every route of the control plane."""

from django.urls import URLPattern, URLResolver

from accounts.views import ApiKeyViews, routes_of

urlpatterns: list[URLPattern | URLResolver] = [
    *routes_of(ApiKeyViews),
]

handler400 = "rest.errors.request_refused"
handler403 = "rest.errors.permission_refused"
handler404 = "rest.errors.route_unknown"
handler500 = "rest.errors.failed"
