"""Which providers an account can name, and how a name is understood.

A provider is named by its `providerId`, or by its `aigp_…` ID where it is a custom one. The data plane knows
`providerId`s alone, so whatever is published passes through here first.
"""

import uuid
from collections.abc import Iterable
from itertools import islice
from typing import Final

from accounts.models import Account
from gateway_core import ids
from gateway_core.catalog import BUILT_IN, nearest_providers
from providers.catalog import held_catalog
from providers.models import Provider
from rest.errors import InvalidRequest

# Looking for resemblances is the dear part of a refusal, so one request gets so many, among so many custom providers.
_MOST_SUGGESTIONS: Final = 20
_MOST_COMPARED: Final = 500


class ProviderUnknown(InvalidRequest):
    """There is no such provider."""

    code = "provider_unknown"


class KnownProviders:
    """The built-in providers and an account's own, for the time of one request."""

    def __init__(self, custom: Iterable[tuple[uuid.UUID, str]] = ()) -> None:
        """Take the account's custom providers, as (ID, `providerId`)."""
        self._custom = {slug: identity for identity, slug in custom}
        self._slugs = {ids.to_text(ids.Prefix.PROVIDER, identity): slug for slug, identity in self._custom.items()}
        self._suggested: dict[str, tuple[str, ...]] = {}
        self._bare_models = 0

    @classmethod
    def of(cls, account: Account) -> "KnownProviders":
        """What this account can name now."""
        return cls(Provider.objects.filter(account=account).order_by("id").values_list("id", "slug"))

    def find(self, name: str) -> str | None:
        """The `providerId` that a name means: itself, or that of the `aigp_…` ID. None where it means nothing."""
        if name in BUILT_IN or name in self._custom:
            return name
        return self._slugs.get(name)

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
        """The sentence that tells of an unknown name. It does not repeat it: it may be a secret in the wrong place."""
        sentence = "There is no provider with this ID."
        near = self.nearest(name)
        return f"{sentence} Did you mean {' or '.join(near)}?" if near else sentence

    def bare_model_refusal(self, name: str) -> str:
        """The sentence that tells of a model named without its provider, with those that it could be."""
        sentence = "A model is named with its provider, as in openai:gpt-4o, or by its open ID, as in x/m."
        if self._bare_models >= _MOST_SUGGESTIONS:
            return sentence
        self._bare_models += 1
        catalog = held_catalog()
        near = [f"{provider}:{model}" for provider, model in catalog.serving(name)[:3]] or catalog.nearest_models(name)
        return f"{sentence} Did you mean {' or '.join(near)}?" if near else sentence
