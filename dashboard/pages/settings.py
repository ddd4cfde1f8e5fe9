"""The account's own bounds on every request."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import SETTINGS
from dashboard.page import Page


class GatewayConfigurationPage(Page):
    """`/dashboard/settings`."""

    path = "settings"
    name = "gateway-configuration"
    section = SETTINGS
    title = "Gateway configuration"
    template = "dashboard/settings.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (GatewayConfigurationPage,)
