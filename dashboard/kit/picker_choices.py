"""The choices of pickers: a few objects of the catalog and of the account that match the typed text.

The catalog has thousands of models, so the browser asks for each text instead of getting them all.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from django.db.models import Q

from accounts.models import Account
from dashboard.wording.scope_summary import ProviderNames
from gateway_core.catalog import BUILT_IN, Model
from provider_keys.models import ProviderKey
from providers.catalog import held_catalog
from providers.models import Provider, ProviderModel

MOST: Final = 20
LONGEST: Final = 255


class Choice(NamedTuple):
    """One choice: the value for the configuration, the label for users, and a note that helps to distinguish it."""

    value: str
    label: str
    note: str


class PickerQuery(NamedTuple):
    """The request of a picker."""

    account: Account
    # The typed text, at most LONGEST characters.
    text: str = ""
    # For provider keys: the provider that they belong to, as a `providerId` or an `aigp_…` ID.
    provider: str = ""


def providers(asked: PickerQuery) -> list[Choice]:
    """Built-in providers in the catalog's order, then the account's own."""
    return _fitting(_providers(asked), asked.text)


def models(asked: PickerQuery) -> list[Choice]:
    """Models as `provider:model`. Those whose name begins with the typed text come first."""
    return _fitting(_models(asked), asked.text)


def subjects(asked: PickerQuery) -> list[Choice]:
    """The subjects of rules: providers, and also models once something is typed."""
    found = providers(asked)
    return [*found, *models(asked)][:MOST] if asked.text.strip() else found


def provider_keys(asked: PickerQuery) -> list[Choice]:
    """The account's stored keys for a provider, newest first, by name or by the beginning of their mask."""
    slug = ProviderNames.of(asked.account).slug(asked.provider)
    keys = ProviderKey.objects.filter(account=asked.account, provider=slug)
    if text := asked.text.strip():
        keys = keys.filter(Q(name__icontains=text) | Q(key_redacted__startswith=text))
    return [Choice(key.text_id, key.name or "", key.key_redacted) for key in keys.order_by("-id")[:MOST]]


KINDS: Final[dict[str, Callable[[PickerQuery], list[Choice]]]] = {
    "providers": providers,
    "models": models,
    "subjects": subjects,
    "provider-keys": provider_keys,
}


def _providers(asked: PickerQuery) -> Iterator[Choice]:
    for provider in BUILT_IN.values():
        managed = ", managed inference" if provider.is_managed else ""
        yield Choice(provider.id, provider.display_name, f"built-in{managed}")
    own = Provider.objects.filter(account=asked.account).order_by("slug")
    for slug, name in own.values_list("slug", "name"):
        yield Choice(slug, name, f"custom, {slug}")


def _models(asked: PickerQuery) -> Iterator[Choice]:
    catalog = held_catalog()
    for provider in BUILT_IN.values():
        for model in catalog.models(provider.id):
            yield Choice(f"{provider.id}:{model.id}", f"{provider.id}:{model.id}", _about(model))
    own = ProviderModel.objects.filter(provider__account=asked.account).order_by("provider__slug", "model_id")
    for slug, model_id in own.values_list("provider__slug", "model_id"):
        yield Choice(f"{slug}:{model_id}", f"{slug}:{model_id}", "custom")


def _about(model: Model) -> str:
    facts = [model.name or ""]
    if model.context_window:
        facts.append(f"{model.context_window:,} tokens")
    if model.input_price is not None and model.output_price is not None:
        facts.append(f"${model.input_price} in, ${model.output_price} out")
    return " · ".join(fact for fact in facts if fact)


def _fitting(choices: Iterable[Choice], text: str) -> list[Choice]:
    """The choices that contain every typed word, best first."""
    words = text.casefold().split()
    if not words:
        return list(islice(choices, MOST))
    typed = " ".join(words)
    ranked = [
        (_rank(choice, typed), place, choice)
        for place, choice in enumerate(choices)
        if all(word in f"{choice.value} {choice.label} {choice.note}".casefold() for word in words)
    ]
    return [choice for _, _, choice in sorted(ranked)[:MOST]]


def _rank(choice: Choice, typed: str) -> int:
    """0 where the name equals the typed text, 1 where it begins with it, 2 for the rest."""
    names = {name for full in (choice.value, choice.label) for name in (full, full.partition(":")[2])}
    folded = {name.casefold() for name in names}
    return 0 if typed in folded else 1 if any(name.startswith(typed) for name in folded) else 2
