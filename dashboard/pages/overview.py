"""What went on lately: requests, errors and cost, the health of provider keys, the first steps."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import OVERVIEW
from dashboard.page import Page


class OverviewPage(Page):
    """`/dashboard/`."""

    path = ""
    name = "overview"
    section = OVERVIEW
    title = "Overview"
    template = "dashboard/overview.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (OverviewPage,)
