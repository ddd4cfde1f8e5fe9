"""The balance for managed inference, and what moved it."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import CREDITS
from dashboard.page import Page


class CreditsPage(Page):
    """`/dashboard/credits`."""

    path = "credits"
    name = "credits"
    section = CREDITS
    title = "Credits"
    template = "dashboard/credits.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (CreditsPage,)
