"""The tokens that apps show to the data plane."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from access_keys.models import AccessKey
from dashboard.lists import listing_of
from dashboard.navigation import ACCESS_KEYS
from dashboard.page import Page


class AccessKeysPage(Page):
    """`/dashboard/access-keys`."""

    path = "access-keys"
    name = "access-keys"
    section = ACCESS_KEYS
    title = "Access keys"
    template = "dashboard/access_keys.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """One page of the list."""
        return self.render(listing=listing_of(request, self.owned(AccessKey), AccessKey.id_prefix))


PAGES: Final = (AccessKeysPage,)
