"""Pages for the built-in providers: their models and prices in the catalog, and the stored keys."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.db.models import Count
from django.http import HttpRequest, HttpResponse

from dashboard.kit.lists import Filter, Filters
from dashboard.kit.page import Page
from dashboard.navigation import PROVIDERS
from dashboard.pages import custom_providers
from dashboard.wording.key_health import health_of
from gateway_core.catalog import BUILT_IN, BuiltInProvider, Catalog, Model
from provider_keys.models import ProviderKey
from providers.catalog import current_catalog
from rest.errors import NotFound

MOST_MODELS: Final = 100
_MOST_KEYS: Final = 20


class ListedProvider(NamedTuple):
    """One row of the list of built-in providers."""

    provider: BuiltInProvider
    model_count: int
    key_count: int
    # Whether the operator has stored a key for it.
    is_managed_here: bool


class ListedModel(NamedTuple):
    """A model of the catalog. Prices are US dollars per million tokens; empty where unknown."""

    provider: BuiltInProvider
    name: str
    display_name: str
    context_window: int | None
    input_price: str
    output_price: str


class BuiltInProvidersPage(Page):
    """`/dashboard/providers`; `?q=` searches the models of all of them."""

    path = "providers"
    name = "providers"
    section = PROVIDERS
    title = "Built-in providers"
    template = "dashboard/providers.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show all providers, or the models that match the search."""
        filters = Filters(request, (Filter("q", "Search", placeholder="Search all models"),))
        catalog = current_catalog()
        counts = dict(self.owned(ProviderKey).values_list("provider").annotate(Count("id")))
        providers = [
            ListedProvider(
                provider=provider,
                model_count=len(list(catalog.models(provider.id))),
                key_count=counts.get(provider.id, 0),
                is_managed_here=provider.id in catalog.managed,
            )
            for provider in BUILT_IN.values()
        ]
        found = _models(catalog, BUILT_IN.values(), filters["q"]) if filters["q"] else []
        return self.render(providers=providers, filters=filters, **_shown(found))


class BuiltInProviderPage(Page):
    """`/dashboard/providers/built-in/<providerId>`: one built-in provider, with its form."""

    path = "providers/built-in/<str:provider_id>"
    name = "built-in-provider"
    section = PROVIDERS
    title = "Provider"
    template = "dashboard/built_in_provider.html"
    parents = (("Built-in", "providers"),)

    def get(self, request: HttpRequest, provider_id: str) -> HttpResponse:
        """Show one provider with its models and its stored keys."""
        provider = BUILT_IN.get(provider_id)
        if provider is None:
            raise NotFound("There is no built-in provider with this ID.")
        filters = Filters(request, (Filter("q", "Search", placeholder="Search its models"),))
        catalog = current_catalog()
        keys = self.owned(ProviderKey).filter(provider=provider.id).defer("sealed", "fingerprint").order_by("-id")
        return self.render(
            title=provider.display_name,
            provider=provider,
            is_managed_here=provider.id in catalog.managed,
            keys=[(key, health_of(key)) for key in keys[:_MOST_KEYS]],
            filters=filters,
            **_shown(_models(catalog, [provider], filters["q"])),
        )


def _models(catalog: Catalog, providers: Iterable[BuiltInProvider], text: str) -> list[ListedModel]:
    """The models that match: every word of the text is in the provider's ID or name, or in the model's ID or name."""
    words = text.casefold().split()
    return [
        ListedModel(
            provider=provider,
            name=model.id,
            display_name=model.name or "",
            context_window=model.context_window,
            input_price=_price(model.input_price),
            output_price=_price(model.output_price),
        )
        for provider in providers
        for model in sorted(catalog.models(provider.id), key=lambda model: model.id)
        if not words or _holds(provider, model, words)
    ]


def _holds(provider: BuiltInProvider, model: Model, words: Sequence[str]) -> bool:
    text = f"{provider.id}:{model.id} {provider.display_name} {model.name or ''}".casefold()
    return all(word in text for word in words)


def _price(text: str | None) -> str:
    """A price with two decimals (`$2.50`), or with more where it needs them."""
    if text is None:
        return ""
    price = Decimal(text)
    return f"${price:.2f}" if price == price.quantize(Decimal("0.01")) else f"${price.normalize():f}"


def _shown(found: Sequence[ListedModel]) -> dict[str, Any]:
    return {"models": found[:MOST_MODELS], "model_count": len(found), "has_more_models": len(found) > MOST_MODELS}


PAGES: Final = (BuiltInProvidersPage, BuiltInProviderPage, *custom_providers.PAGES)
