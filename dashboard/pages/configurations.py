"""What apps may reach, and by whose keys."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from configurations.models import Configuration
from dashboard.lists import listing_of
from dashboard.navigation import CONFIGURATIONS
from dashboard.page import Page


class ConfigurationsPage(Page):
    """`/dashboard/configurations`."""

    path = "configurations"
    name = "configurations"
    section = CONFIGURATIONS
    title = "Configurations"
    template = "dashboard/configurations.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """One page of the list."""
        return self.render(listing=listing_of(request, self.owned(Configuration), Configuration.id_prefix))


PAGES: Final = (ConfigurationsPage,)
