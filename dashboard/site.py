"""The admin site, reduced to our own pages.

From Django's admin it keeps `admin_view` (signed in, permitted, CSRF, never cached), from the theme the look. No model
is registered, so the admin's built-in pages, which would bypass the services, do not exist: no change form, history,
autocomplete, bulk action, popup or jsi18n (docs/decisions/0090-dashboard.md).
"""

from allauth.account import views as account
from django.http import HttpRequest
from django.urls import URLPattern, path, re_path
from unfold.sites import UnfoldAdminSite

from dashboard.kit.page import Missing
from dashboard.pages import PAGES


class DashboardSite(UnfoldAdminSite):  # type: ignore[misc]  # the theme has no types
    """The dashboard, under `/dashboard/`."""

    site_title = "Gateway Admin"
    site_header = "Gateway Admin"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether a user is signed in. dashboard.kit.page shows an error to users who belong to no account."""
        return bool(request.user.is_active)

    def get_urls(self) -> list[URLPattern]:
        """Our pages, wrapped in `admin_view`, and the admin's own sign-in and sign-out. No other page of the admin."""
        return [
            # `admin_view` redirects to these names. The routes of dashboard.sign_in stand before them and serve them.
            path("login", account.login, name="login"),
            path("logout", account.logout, name="logout"),
            *(path(page.path, self.admin_view(page.as_view()), name=page.name) for page in PAGES),
            re_path(r"^(?P<rest>.*)$", self.admin_view(Missing.as_view()), name=Missing.name),
        ]


site = DashboardSite(name="dashboard")
