"""Which account to look into: the operator's overview of all, and every member's way from one to another."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts.models import Account
from dashboard.account import Role, choose
from dashboard.lists import Filter, Filters, listing_of
from dashboard.page import Page
from gateway_core import ids
from rest.errors import NotFound

FILTERS: Final = (Filter("q", "Search", placeholder="Name"),)


class AccountsPage(Page):
    """`/dashboard/accounts`, for the operator alone."""

    path = "accounts"
    name = "accounts"
    title = "Accounts"
    template = "dashboard/accounts.html"
    needs_account = False

    def get(self, request: HttpRequest) -> HttpResponse:
        """One page of all accounts."""
        if not request.user.is_superuser:
            raise NotFound
        filters = Filters(request, FILTERS)
        accounts = Account.objects.filter(name__icontains=filters["q"]) if filters["q"] else Account.objects.all()
        return self.render(listing=listing_of(request, accounts, ids.Prefix.ACCOUNT), filters=filters)


class ChooseAccountPage(Page):
    """`POST /dashboard/accounts/choose`: enter another account."""

    path = "accounts/choose"
    name = "choose-account"
    title = "Choose an account"
    # Where to look is everybody's own choice.
    least_to_write = Role.VIEWER
    needs_account = False
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """Remember the choice for this session, and begin at the overview."""
        choose(request, request.POST.get("account", ""))
        return self.redirect("overview")


PAGES: Final = (AccountsPage, ChooseAccountPage)
