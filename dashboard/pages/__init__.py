"""The pages of the dashboard, one module for each section.

How a page is made:

- A page is a class on `dashboard.kit.page.Page`, listed in its module's `PAGES`; its `path` has no trailing
  slash, and its template stands at `dashboard/templates/dashboard/<module>….html` and extends `dashboard/page.html`.
- It reads from `self.owned(Model)` and `self.found(Model, text_id)`: objects of other accounts do not exist for it.
- It writes only by a room's service with `by=self.visit.principal`; a form is `dashboard.kit.forms.Form` on the API's
  own serializer, so that rules and messages are the API's. After a write it redirects, with a message; only a page that
  shows a token once answers the POST itself.
- An action that cannot be undone is a `dashboard.kit.confirmation.ConfirmedPage`.
- Lists are `dashboard.kit.lists.listing_of`: by key, newest first, no count and no offset.
- A page has at most 15 queries, three of them for the session, the user and the membership. The number does not grow
with
  a table: use `select_related` and `prefetch_related` for the objects that a row shows.
- A POST needs an editor; a page for owners sets `least_to_read` and `least_to_write`. Controls that a viewer may not
  use are not shown to one (`{% if visit.may_write %}`).
- No inline script, no inline style, no event attribute: the content security policy refuses them. Behaviour is a plain
  ES module in `dashboard/static/dashboard/js/`, bound by `data-` attributes; data for it is
  `{{ data|json_script:"id" }}`.
- docs/dashboard.md lists the building blocks; `api_keys` is the page to copy from.
"""

from typing import Final

from dashboard.kit.page import Page
from dashboard.pages import (
    access_keys,
    accounts,
    activity,
    api_keys,
    audit,
    configurations,
    credits,  # noqa: A004 -- the section's name
    data_plane,
    members,
    overview,
    provider_keys,
    providers,
    quotas,
    search,
    settings,
)

PAGES: Final[tuple[type[Page], ...]] = (
    *overview.PAGES,
    *access_keys.PAGES,
    *configurations.PAGES,
    *providers.PAGES,
    *provider_keys.PAGES,
    *activity.PAGES,
    *credits.PAGES,
    *data_plane.PAGES,
    *audit.PAGES,
    *settings.PAGES,
    *api_keys.PAGES,
    *members.PAGES,
    *quotas.PAGES,
    *accounts.PAGES,
    *search.PAGES,
)
