"""The admin site: who may enter it, and what they find there.

A member sees the resources of the accounts that they belong to; the operator (superuser) sees all. Every page starts
from the account, exactly as the API does.
"""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from accounts.models import Account, User


class DashboardSite(UnfoldAdminSite):  # type: ignore[misc]  # the theme has no types
    """The dashboard, under `/dashboard/`."""

    site_title = "Gateway Admin"
    site_header = "Gateway Admin"
    index_title = "Overview"
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may enter: an active operator, or a member of an account."""
        return is_welcome(request.user)


def is_welcome(user: User | AnonymousUser) -> bool:
    """Whether a user has anything to see in the dashboard."""
    if not isinstance(user, User) or not user.is_active:
        return False
    return user.is_superuser or user.memberships.exists()


def accounts_of(user: User | AnonymousUser) -> QuerySet[Account]:
    """The accounts that a user may look into."""
    if not isinstance(user, User) or not user.is_active:
        return Account.objects.none()
    return Account.objects.all() if user.is_superuser else Account.objects.filter(memberships__user=user)


class OwnedPage(ModelAdmin):  # type: ignore[misc]  # as above
    """A list and a page for a resource of an account, for reading.

    Changes are the API's for now: nothing here writes, so no path around the services exists.
    """

    ordering = ("-id",)
    list_per_page = 50
    # Counting a table of a million rows costs more than the page (Django's `show_full_result_count`).
    show_full_result_count = False
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What the user's accounts own, and nothing else."""
        owned: QuerySet[Any] = super().get_queryset(request)
        return owned.filter(account__in=accounts_of(request.user))

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Everybody who may enter sees the list; it holds what is theirs."""
        return is_welcome(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What `get_queryset` finds may be seen."""
        return is_welcome(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes here."""
        return False


site = DashboardSite(name="admin")
