"""The admin site, reduced to our own pages.

Of Django's admin it keeps the door (`admin_view`: signed in, welcome, CSRF, never cached), of the theme the look. No
model is registered, so that none of the admin's built-in paths around the services exists: no change form, history,
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
        """Whether somebody is signed in. Who belongs to no account is told so by the page (dashboard.kit.page)."""
        return bool(request.user.is_active)

    def get_urls(self) -> list[URLPattern]:
        """Our pages behind the admin's door, and nothing of the admin's own but sign-in and sign-out."""
        return [
            # Names that the door redirects to; the routes of dashboard.sign_in stand before these.
            path("login", account.login, name="login"),
            path("logout", account.logout, name="logout"),
            *(path(page.path, self.admin_view(page.as_view()), name=page.name) for page in PAGES),
            re_path(r"^(?P<rest>.*)$", self.admin_view(Missing.as_view()), name=Missing.name),
        ]


site = DashboardSite(name="dashboard")
