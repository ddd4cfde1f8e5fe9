"""Who belongs to the account, and as what."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import SETTINGS
from dashboard.page import Page


class MembersPage(Page):
    """`/dashboard/settings/members`."""

    path = "settings/members"
    name = "members"
    section = SETTINGS
    title = "Members"
    template = "dashboard/members.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (MembersPage,)
