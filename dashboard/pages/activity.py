"""What apps asked for, attempt by attempt."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import ACTIVITY
from dashboard.page import Page


class ActivityPage(Page):
    """`/dashboard/activity`."""

    path = "activity"
    name = "activity"
    section = ACTIVITY
    title = "Activity"
    template = "dashboard/activity.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (ActivityPage,)
