"""The providers that requests go to: the catalog's, and the account's own."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.lists import listing_of
from dashboard.navigation import PROVIDERS
from dashboard.page import Page
from gateway_core.catalog import BUILT_IN
from providers.models import Provider


class BuiltInProvidersPage(Page):
    """`/dashboard/providers`."""

    path = "providers"
    name = "providers"
    section = PROVIDERS
    title = "Built-in providers"
    template = "dashboard/providers.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """All of them; they are few and in memory."""
        return self.render(providers=list(BUILT_IN.values()))


class CustomProvidersPage(Page):
    """`/dashboard/providers/custom`."""

    path = "providers/custom"
    name = "custom-providers"
    section = PROVIDERS
    title = "Custom providers"
    template = "dashboard/custom_providers.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """One page of the list."""
        return self.render(listing=listing_of(request, self.owned(Provider), Provider.id_prefix))


PAGES: Final = (BuiltInProvidersPage, CustomProvidersPage)
