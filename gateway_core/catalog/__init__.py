"""The built-in catalog: which upstreams this gateway knows, what they serve, and how a model's name is understood.

The catalog has two parts. The facts of the providers (origin, surfaces) are in `providers.json`
beside this file. A worker reads its own copy, so that nobody who controls Redis or the control plane can send an
operator's key elsewhere. The models come as a document (`ModelsDocument`), which the control plane builds and
publishes.

Source: docs/decisions/0008-catalog.md.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from importlib import resources
from itertools import islice
from typing import Annotated, Final, NamedTuple

import msgspec

from gateway_core.catalog.prices import PriceSet, PriceSets
from gateway_core.catalog.suggestions import NameIndex


class Surface(StrEnum):
    """One API of an upstream, named after its path."""

    CHAT_COMPLETIONS = "chat-completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"

    @property
    def path(self) -> str:
        """The path of the surface, after the provider's base path."""
        return "/chat/completions" if self is Surface.CHAT_COMPLETIONS else f"/{self.value}"


class Format(StrEnum):
    """The wire format that a surface speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        """Every surface of the format, the most used first."""
        if self is Format.ANTHROPIC:
            return (Surface.MESSAGES,)
        return (Surface.CHAT_COMPLETIONS, Surface.COMPLETIONS, Surface.RESPONSES, Surface.EMBEDDINGS)


class KeyHeader(msgspec.Struct, frozen=True, rename="camel"):
    """How an upstream expects its key: the name of the header, and the text before the value."""

    name: str = "authorization"
    prefix: str = "Bearer "


class BuiltInProvider(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One upstream that needs no set-up beyond a key."""

    id: str
    display_name: str
    base_url: str
    surfaces: tuple[Surface, ...] = (Surface.CHAT_COMPLETIONS,)
    # Whether the operator may offer it on credits (step type `ngrok`).
    is_managed: bool = False
    # Whether it is known to accept `stream_options`. Some providers refuse unknown parameters; those report their
    # usage without being asked.
    takes_stream_options: bool = False
    # The calls beside the surfaces that it is known to serve: images, audio, moderations, rerank, files, batches,
    # responses (stored ones).
    beside: tuple[str, ...] = ()
    # The members of a body by which it alone would use another model than the request's. The data plane refuses them
    # under an access scope, with those by which any upstream might (data_plane.forwarding.governed).
    routing_members: tuple[str, ...] = ()
    # The headers of a caller that it alone reads, lower case. Those that any upstream may read pass everywhere.
    headers: tuple[str, ...] = ()
    # Other names that clients know it by. An account's own provider of such a name wins over it.
    aliases: tuple[str, ...] = ()
    # Its name in the price data; None where the price data does not list it.
    price_source: str | None = None
    # What a service tier costs, as a multiple of the usual price, where the price data do not say it of a model.
    tier_factors: dict[str, Decimal] = msgspec.field(default_factory=dict)
    # Whether it writes the names of its models in lower case, though the price data does not.
    writes_lower_case: bool = False
    # Parts of the names of models whose requests cost more than their tokens: they search by themselves.
    unpriced_parts: tuple[str, ...] = ()
    # How the names of its models begin. The price data may list more models than this origin serves (Google's other
    # cloud).
    model_prefixes: tuple[str, ...] = ("",)


def _load() -> dict[str, BuiltInProvider]:
    text = resources.files(__name__).joinpath("providers.json").read_bytes()
    return {provider.id: provider for provider in msgspec.json.decode(text, type=tuple[BuiltInProvider, ...])}


# In the order of the file. A model name without a provider is looked up in this order.
BUILT_IN: Final[Mapping[str, BuiltInProvider]] = _load()


# The built-in provider that an alias means.
ALIASES: Final[Mapping[str, str]] = {alias: provider.id for provider in BUILT_IN.values() for alias in provider.aliases}
# What stands before the first colon of a fine-tuned model's name at OpenAI (`ft:gpt-4o:acme::7p4lURel`).
FINE_TUNED: Final = "ft"


class BuiltInModel(NamedTuple):
    """A model of a built-in provider, as a name means it."""

    provider: str
    model: str


def built_in_model(head: str, rest: str) -> BuiltInModel:
    """What `head:rest` means where the account has no provider of its own named `head`.

    An alias means its provider, and the name of a fine-tuned model means OpenAI's. Any other head is returned as it is.
    """
    if head == FINE_TUNED:
        return BuiltInModel("openai", f"{head}:{rest}")
    return BuiltInModel(ALIASES.get(head, head), rest)


class Model(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A model as a provider spells it. Prices are in US dollars per million tokens, as decimal text."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    name: str | None = None
    context_window: int | None = None
    input_price: str | None = None
    output_price: str | None = None
    # All of its prices. Empty in a document of a release that knew the two above alone.
    prices: PriceSets = ()

    @property
    def price_sets(self) -> PriceSets:
        """What its use costs, for `gateway_core.catalog.prices`; empty where no price is known."""
        if self.prices or self.input_price is None:
            return self.prices
        return (PriceSet(input=Decimal(self.input_price), output=_decimal(self.output_price)),)

    @property
    def is_priced(self) -> bool:
        """Whether a price is known."""
        return self.input_price is not None or self.output_price is not None

    @property
    def is_chargeable(self) -> bool:
        """Whether each of its prices is known and above zero. Only then may the operator pay for it."""
        sets = self.price_sets
        return bool(sets) and all(
            (one.tier or one.input is not None) and all(price > 0 for price in one.prices()) for one in sets
        )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


class ModelsDocument(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The models that every built-in provider serves, by provider ID."""

    providers: dict[str, tuple[Model, ...]]
    must_understand: tuple[str, ...] = ()


# A dated or `-latest` release of a catalogued model is that model, and goes upstream as written.
_RELEASE: Final = re.compile(r"(?:[-@](?:\d{8}|\d{4}-\d{2}-\d{2})|-latest)\Z")
_SUGGESTED_FROM: Final = 100  # only the first 100 characters of an unknown name are compared
_MOST_COMPARED: Final = 100  # with so many custom providers


def model_key(provider: str, model: str) -> str:
    """The form in which model names are compared: without the provider's own prefix, without case.

    `openai/gpt-4o` and `GPT-4o` of `openai` are one model (contract, section 3).
    """
    folded = model.casefold()
    prefix = f"{provider.casefold()}/"
    return folded.removeprefix(prefix) or folded


class Catalog:
    """The built-in providers with their models, ready to be asked."""

    def __init__(self, models: ModelsDocument, *, version: int = 0, managed: Iterable[str] = ()) -> None:
        self.version = version
        # The providers that the operator holds a key for (managed inference).
        self.managed = frozenset(managed) & {provider.id for provider in BUILT_IN.values() if provider.is_managed}
        self._models: dict[str, dict[str, Model]] = {
            provider: {model_key(provider, model.id): model for model in models.providers.get(provider, ())}
            for provider in BUILT_IN
        }
        self._serving: dict[str, list[tuple[str, str]]] = {}
        for provider, served in self._models.items():
            for model in served.values():
                self._serving.setdefault(model.id.casefold(), []).append((provider, model.id))
        self._names = NameIndex(self._serving)
        # {provider: the names of its models}, made when it is asked for: workers never ask.
        self._names_of: dict[str, NameIndex] = {}

    def find(self, provider: str, model: str) -> Model | None:
        """The catalogued model that a name means at a built-in provider, dated releases included.

        Args:
            provider: a built-in provider's ID; any other serves nothing here.
            model: the name as written after `provider:` or `provider/`.
        """
        served = self._models.get(provider)
        if served is None:
            return None
        key = model_key(provider, model)
        return served.get(key) or served.get(_RELEASE.sub("", key))

    def spelling(self, provider: str, model: str) -> str | None:
        """The provider's own spelling of a catalogued name; a dated release keeps its own; None if uncatalogued."""
        served = self._models.get(provider, {})
        key = model_key(provider, model)
        if found := served.get(key):
            return found.id
        return model if _RELEASE.sub("", key) in served else None

    def serving(self, name: str) -> list[tuple[str, str]]:
        """The providers that list a model of this name, as (provider, spelling) in the catalog's order."""
        folded = name.casefold()
        found = self._serving.get(folded)
        if found is not None:
            return found
        return [(provider, name) for provider, _ in self._serving.get(_RELEASE.sub("", folded), ())]

    def models(self, provider: str) -> Iterable[Model]:
        """The models that a built-in provider serves."""
        return self._models.get(provider, {}).values()

    def nearest_models(self, name: str) -> tuple[str, ...]:
        """Up to three catalogued models that look like an unknown name."""
        near = self._names.nearest(name, cutoff=0.7)
        return tuple(f"{provider}:{model}" for text in near for provider, model in self._serving[text][:1])

    def nearest_models_of(self, provider: str, name: str) -> tuple[str, ...]:
        """Up to three catalogued models of one built-in provider that look like an unknown name."""
        served = self._models.get(provider, {})
        index = self._names_of.get(provider)
        if index is None:
            index = self._names_of[provider] = NameIndex(served)
        return tuple(served[key].id for key in index.nearest(model_key(provider, name), cutoff=0.8))


def nearest_providers(name: str, custom: Iterable[str] = ()) -> tuple[str, ...]:
    """Up to three known provider IDs that look like an unknown one."""
    return tuple(
        difflib.get_close_matches(
            name[:_SUGGESTED_FROM].casefold(), [*BUILT_IN, *islice(custom, _MOST_COMPARED)], n=3, cutoff=0.6
        )
    )
