"""The command search: finds pages by their title, and the account's objects by name, ID or mask."""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from access_keys.models import AccessKey
from accounts.owned.models import OwnedModel
from configurations.models import Configuration
from dashboard.account import Role
from dashboard.kit.page import Page
from dashboard.navigation import SECTIONS
from gateway_core import ids
from gateway_core.redaction import MASK_LEAD
from provider_keys.models import ProviderKey

# The number of results of each kind.
_SHOWN: Final = 5
_LONGEST: Final = 100


@dataclass(frozen=True)
class Kind:
    """A kind of object that is found: its icon, its name, the route of its list, and whether it has a mask."""

    model: type[OwnedModel]
    icon: str
    noun: str
    list: str
    has_mask: bool


_KINDS: Final = (
    Kind(AccessKey, "key", "Access key", "access-keys", has_mask=True),
    Kind(Configuration, "tune", "Configuration", "configurations", has_mask=False),
    Kind(ProviderKey, "vpn_key", "Provider key", "provider-keys", has_mask=True),
)


class SearchPage(Page):
    """`/dashboard/search`, asked by the palette's script: `{"results": [{title, detail, icon, url}]}`.

    The text is in the body of a POST (`q`), because it may be a whole key, and addresses are in logs.

    There is at most one query for each kind, with at most five rows. An ID is looked up by the primary key. A name is
    searched in the account's rows, from the newest on.
    """

    path = "search"
    name = "search"
    title = "Search"

    least_to_write = Role.VIEWER
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """The matches as JSON, pages first."""
        asked = request.POST.get("q", "").replace("\x00", "").strip()[:_LONGEST]
        found = [*_pages(asked), *(item for kind in _KINDS for item in self._things(asked, kind))] if asked else []
        return JsonResponse({"results": found})

    def _things(self, asked: str, kind: Kind) -> list[dict[str, Any]]:
        identity = _identity(kind.model, asked)
        items = self.owned(kind.model).filter(_fits(asked, kind) if identity is None else Q(id=identity))
        return [_shown(item, kind) for item in items.order_by("-id")[:_SHOWN]]


def _fits(asked: str, kind: Kind) -> Q:
    fits = Q(name__icontains=asked)
    # The part of a mask before the ***. A whole key is searched by the same part.
    lead = asked.partition("*")[0][:MASK_LEAD]
    return fits | Q(key_redacted__startswith=lead) if kind.has_mask and lead else fits


def _shown(item: Any, kind: Kind) -> dict[str, Any]:
    mask = item.key_redacted if kind.has_mask else ""
    return {
        "title": item.name or mask,
        "detail": f"{kind.noun} · {mask}" if mask else kind.noun,
        "icon": kind.icon,
        "url": f"{reverse(f'dashboard:{kind.list}')}/{item.text_id}",
    }


def _pages(asked: str) -> list[dict[str, Any]]:
    titles = [(section.title, "", section.icon, section.page) for section in SECTIONS if not section.tabs]
    titles += [(tab.title, section.title, section.icon, tab.page) for section in SECTIONS for tab in section.tabs]
    return [
        {"title": title, "detail": above or "Page", "icon": icon, "url": reverse(f"dashboard:{page}")}
        for title, above, icon, page in titles
        if asked.lower() in f"{above} {title}".lower()
    ][:_SHOWN]


def _identity(model: type[OwnedModel], asked: str) -> uuid.UUID | None:
    try:
        return ids.from_text(model.id_prefix, asked)
    except ids.InvalidId:
        return None


PAGES: Final = (SearchPage,)
