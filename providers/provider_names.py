"""The providers that an account can name, and how names become `providerId`s.

A provider is named by its `providerId`; a custom one also by its `aigp_…` ID. The data plane knows only `providerId`s,
so names are resolved here before they are published.
"""

import uuid
from collections.abc import Iterable
from itertools import islice
from typing import Final

from accounts.models import Account
from gateway_core import ids
from gateway_core.catalog import ALIASES, BUILT_IN, BuiltInModel, built_in_model, nearest_providers
from providers.catalog import held_catalog
from providers.models import Provider
from rest.errors import InvalidRequest

# The search for similar names is slow, so the number of suggestions and of compared custom providers is limited.
_MOST_SUGGESTIONS: Final = 20
_MOST_COMPARED: Final = 500


class ProviderUnknown(InvalidRequest):
    """There is no such provider."""

    code = "provider_unknown"


class KnownProviders:
    """The built-in providers and an account's custom ones, for one request."""

    def __init__(self, custom: Iterable[tuple[uuid.UUID, str]] = ()) -> None:
        """Take the account's custom providers, as (ID, `providerId`)."""
        self._custom = {slug: identity for identity, slug in custom}
        self._slugs = {ids.to_text(ids.Prefix.PROVIDER, identity): slug for slug, identity in self._custom.items()}
        self._suggested: dict[str, tuple[str, ...]] = {}
        self._bare_models = 0

    @classmethod
    def of(cls, account: Account) -> "KnownProviders":
        """The providers that this account can name now."""
        return cls(Provider.objects.filter(account=account).order_by("id").values_list("id", "slug"))

    def find(self, name: str) -> str | None:
        """The `providerId` of a name, which may be an `aigp_…` ID or an alias; None if the name is unknown."""
        if name in BUILT_IN or name in self._custom:
            return name
        return self._slugs.get(name) or ALIASES.get(name)

    def find_model(self, head: str, rest: str) -> BuiltInModel | None:
        """The provider and model that `head:rest` names; None if the provider is unknown."""
        provider = self.find(head)
        if provider is not None:
            return BuiltInModel(provider, rest)
        meant = built_in_model(head, rest)
        return meant if meant.provider in BUILT_IN else None

    def custom_id(self, slug: str) -> uuid.UUID | None:
        """The ID of the custom provider with this `providerId`; None for a built-in one."""
        return self._custom.get(slug)

    def nearest(self, name: str) -> tuple[str, ...]:
        """Up to three `providerId`s that look like an unknown name."""
        if name not in self._suggested:
            if len(self._suggested) >= _MOST_SUGGESTIONS:
                return ()
            self._suggested[name] = nearest_providers(name, islice(self._custom, _MOST_COMPARED))
        return self._suggested[name]

    def refusal(self, name: str) -> str:
        """The error text for an unknown name. It does not repeat the name, which may be a secret in the wrong place."""
        sentence = "There is no provider with this ID."
        near = self.nearest(name)
        return f"{sentence} Did you mean {' or '.join(near)}?" if near else sentence

    def bare_model_refusal(self, name: str) -> str:
        """The error text for a model that is named without its provider, with suggestions."""
        sentence = "A model is named with its provider, as in openai:gpt-4o, or by its open ID, as in x/m."
        if self._bare_models >= _MOST_SUGGESTIONS:
            return sentence
        self._bare_models += 1
        catalog = held_catalog()
        near = [f"{provider}:{model}" for provider, model in catalog.serving(name)[:3]] or catalog.nearest_models(name)
        return f"{sentence} Did you mean {' or '.join(near)}?" if near else sentence
