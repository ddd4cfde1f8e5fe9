"""The page that shows how many objects the account may have, and how many it has."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts.quotas import nearly_full, uses_of
from dashboard.kit.page import Page
from dashboard.navigation import SETTINGS

# How each level is shown: a text and the kind of its badge. Without a level there is no badge.
LEVELS: Final = {
    "nearly": ("80 % used", "info"),
    "almost": ("90 % used", "warning"),
    "reached": ("Reached", "bad"),
}


class QuotasPage(Page):
    """`/dashboard/settings/quotas`: the quotas of the account. An operator sets them; nobody changes them here."""

    path = "settings/quotas"
    name = "quotas"
    section = SETTINGS
    title = "Quotas"
    template = "dashboard/quotas.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show each quota with what is used of it."""
        uses = uses_of(self.visit.account.id)
        return self.render(
            rows=[(use, LEVELS.get(use.level)) for use in uses if use.used is not None],
            each=[use for use in uses if use.used is None],
            full=nearly_full(uses),
        )


PAGES: Final = (QuotasPage,)
