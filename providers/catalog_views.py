"""`/catalog/providers` and `/catalog/models`: the built-in providers and their models.

They are the same for every account. A list is in the catalog's order. Its cursor is the ID of the last item that was
shown; it stays valid when the catalog is refreshed, even if that item is not in the catalog any more.

Source: docs/decisions/0074-catalog-lists.md.
"""

from typing import Any, ClassVar, Final, NamedTuple

from django.urls import URLPattern, path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.owned.views import AccountViews
from gateway_core.catalog import BUILT_IN, Catalog, Model, nearest_providers
from providers.catalog import current_catalog
from providers.catalog_serializers import CatalogModelSerializer, CatalogProviderSerializer, surfaces_of
from rest import uris
from rest.errors import QueryInvalid
from rest.pagination import limit_of, one_value

_LONGEST: Final = 511

_PROVIDERS: Final = list(BUILT_IN)


class _Item(NamedTuple):
    """An item of a list, with its position in the order and the text for searches."""

    place: tuple[int, str]
    text: str
    shown: dict[str, Any]


class CatalogViews(AccountViews):
    """A list of the catalog."""

    # The field of the answer that contains the list's items.
    list_key: ClassVar[str]
    list_order: ClassVar[str] = "In the catalog's order."
    filters: ClassVar[dict[str, dict[str, Any]]] = {
        "q": {
            "description": "Only what has each of these words in its ID or name, in any case.",
            "schema": {"type": "string", "maxLength": _LONGEST},
        },
        "cursor": {
            "description": "Only items after this one; nextPageUri holds it.",
            "schema": {"type": "string", "maxLength": _LONGEST},
        },
    }

    def items(self, request: Request, catalog: Catalog) -> list[_Item]:
        """Everything that there is to list, in order, narrowed by the list's own filters."""
        raise NotImplementedError

    def list(self, request: Request) -> Response:
        """One page, in the catalog's order."""
        limit, cursor = limit_of(request), _place_of(_text(request, "cursor"))
        words = (_text(request, "q") or "").casefold().split()
        found = [
            item
            for item in self.items(request, current_catalog())
            if (cursor is None or item.place > cursor) and all(word in item.text for word in words)
        ]
        next_page_uri = None
        if len(found) > limit:
            found = found[:limit]
            next_page_uri = uris.own_with(request, limit=limit, cursor=found[-1].shown["id"])
        shown = self.shape([item.shown for item in found], many=True, context=self.get_serializer_context()).data
        return Response({self.list_key: shown, "uri": uris.own(request), "nextPageUri": next_page_uri})


class CatalogProviderViews(CatalogViews):
    """`/catalog/providers`: the built-in providers."""

    list_key = "catalogProviders"
    shape = CatalogProviderSerializer

    def items(self, _request: Request, catalog: Catalog) -> list[_Item]:
        """Every built-in provider, in the catalog's order."""
        return [
            _Item(
                place=(place, ""),
                text=f"{provider.id} {provider.display_name}".casefold(),
                shown={
                    "id": provider.id,
                    "display_name": provider.display_name,
                    "base_url": provider.base_url,
                    "supported_api_surfaces": surfaces_of(provider),
                    "managed_inference_supported": provider.is_managed,
                    "managed_inference_available": provider.id in catalog.managed,
                    "model_count": len(list(catalog.models(provider.id))),
                },
            )
            for place, provider in enumerate(BUILT_IN.values())
        ]


class CatalogModelViews(CatalogViews):
    """`/catalog/models`: the models of the built-in providers."""

    list_key = "catalogModels"
    shape = CatalogModelSerializer
    filters: ClassVar[dict[str, dict[str, Any]]] = {
        "provider": {
            "description": "Only models of this built-in provider.",
            "schema": {"type": "string", "enum": _PROVIDERS},
        },
        **CatalogViews.filters,
    }

    def items(self, request: Request, catalog: Catalog) -> list[_Item]:
        """Every model, or those of one provider."""
        asked = _text(request, "provider")
        if asked is not None and asked not in BUILT_IN:
            near = nearest_providers(asked)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise QueryInvalid(details={"provider": f"There is no built-in provider with this ID.{hint}"})
        return [item for item in _models_of(catalog) if asked in {None, item.shown["provider_id"]}]


# The items of the newest catalog: 2,000 of them, 10 ms to make, the same for every request until it changes.
_listed: Final[list[tuple[Catalog, list[_Item]]]] = []


def _models_of(catalog: Catalog) -> list[_Item]:
    for known, items in _listed:
        if known is catalog:
            return items
    made = [
        _Item(
            place=(place, model.id),
            text=f"{provider}:{model.id} {model.name or ''}".casefold(),
            shown=_shown(provider, model),
        )
        for place, provider in enumerate(BUILT_IN)
        for model in sorted(catalog.models(provider), key=lambda model: model.id)
    ]
    _listed[:] = [(catalog, made)]
    return made


def _shown(provider: str, model: Model) -> dict[str, Any]:
    return {
        "id": f"{provider}:{model.id}",
        "provider_id": provider,
        "model_id": model.id,
        "display_name": model.name,
        "context_window": model.context_window,
        "input_price": model.input_price,
        "output_price": model.output_price,
    }


def _text(request: Request, name: str) -> str | None:
    value = one_value(request, name)
    if value is not None and len(value) > _LONGEST:
        raise QueryInvalid(details={name: f"This must have at most {_LONGEST} characters."})
    return value


def _place_of(cursor: str | None) -> tuple[int, str] | None:
    """The position of an item's ID (`openai` or `openai:gpt-4o`) in the order.

    Raises:
        QueryInvalid: the cursor does not begin with a provider's ID.
    """
    if cursor is None:
        return None
    provider, _, model = cursor.partition(":")
    if provider not in BUILT_IN:
        raise QueryInvalid(details={"cursor": "This must be the cursor of a nextPageUri."})
    return _PROVIDERS.index(provider), model


ROUTES: Final[list[URLPattern]] = [
    path("catalog/providers", CatalogProviderViews.as_view({"get": "list"}), name="catalog-providers"),
    path("catalog/models", CatalogModelViews.as_view({"get": "list"}), name="catalog-models"),
]
