"""The workers, and whether they have applied the newest version."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import DATA_PLANE
from dashboard.page import Page


class DataPlanePage(Page):
    """`/dashboard/data-plane`."""

    path = "data-plane"
    name = "data-plane"
    section = DATA_PLANE
    title = "Data plane"
    template = "dashboard/data_plane.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (DataPlanePage,)
