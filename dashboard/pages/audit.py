"""Who changed what, when and from where."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from dashboard.navigation import AUDIT
from dashboard.page import Page


class AuditPage(Page):
    """`/dashboard/audit`."""

    path = "audit"
    name = "audit"
    section = AUDIT
    title = "Audit"
    template = "dashboard/audit.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """The page."""
        return self.render()


PAGES: Final = (AuditPage,)
