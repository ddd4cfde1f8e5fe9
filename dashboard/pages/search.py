"""The command search: pages by their title, the account's things by name, ID or mask."""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from access_keys.models import AccessKey
from accounts.models import OwnedModel
from configurations.models import Configuration
from dashboard.kit.page import Page
from dashboard.navigation import SECTIONS
from gateway_core import ids
from provider_keys.models import ProviderKey

# Of each kind.
_SHOWN: Final = 5
_LONGEST: Final = 100
_MASK_LEAD: Final = 10


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is found: its symbol, what it is called, the route of their list, whether it has a mask."""

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
    """`/dashboard/search?q=…`, asked by the palette's script: `{"results": [{title, detail, icon, url}]}`.

    At most one query for each kind of thing, and never more than five rows. An ID is looked up by the primary key. A
    name is looked for in the account's rows from the newest on.
    """

    path = "search"
    name = "search"
    title = "Search"

    def get(self, request: HttpRequest) -> HttpResponse:
        """What fits, pages first."""
        asked = request.GET.get("q", "").replace("\x00", "").strip()[:_LONGEST]
        found = [*_pages(asked), *(one for kind in _KINDS for one in self._things(asked, kind))] if asked else []
        return JsonResponse({"results": found})

    def _things(self, asked: str, kind: Kind) -> list[dict[str, Any]]:
        identity = _identity(kind.model, asked)
        items = self.owned(kind.model).filter(_fits(asked, kind) if identity is None else Q(id=identity))
        return [_shown(one, kind) for one in items.order_by("-id")[:_SHOWN]]


def _fits(asked: str, kind: Kind) -> Q:
    fits = Q(name__icontains=asked)
    # Of a mask, or of a whole key that somebody has at hand, what stands before the ***.
    lead = asked.partition("*")[0][:_MASK_LEAD]
    return fits | Q(key_redacted__startswith=lead) if kind.has_mask and lead else fits


def _shown(one: Any, kind: Kind) -> dict[str, Any]:
    mask = one.key_redacted if kind.has_mask else ""
    return {
        "title": one.name or mask,
        "detail": f"{kind.noun} · {mask}" if mask else kind.noun,
        "icon": kind.icon,
        "url": f"{reverse(f'dashboard:{kind.list}')}/{one.text_id}",
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
