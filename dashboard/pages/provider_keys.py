"""The upstreams' own API keys: by mask, never by value."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.lists import listing_of
from dashboard.navigation import PROVIDERS
from dashboard.page import Page
from provider_keys.models import ProviderKey


class ProviderKeysPage(Page):
    """`/dashboard/providers/keys`."""

    path = "providers/keys"
    name = "provider-keys"
    section = PROVIDERS
    title = "Provider keys"
    template = "dashboard/provider_keys.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """One page of the list."""
        return self.render(listing=listing_of(request, self.owned(ProviderKey), ProviderKey.id_prefix))


PAGES: Final = (ProviderKeysPage,)
