"""Warnings about model entries that the catalog does not have although it has a model of nearly that name.

An entry may name a model that the catalog does not have yet, so this is never a fault. It may also be a typing mistake,
which the client would notice only when a request is refused.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from accounts.models import Account
from configurations.names import split
from gateway_core.catalog import FINE_TUNED, Catalog, built_in_model
from providers.catalog import held_catalog
from providers.provider_names import KnownProviders

# A search for similar names takes up to a millisecond.
_MOST_SEARCHES: Final = 50


class NearMiss(NamedTuple):
    """A model entry that is nearly the name of a model in the catalog."""

    # Its JSON path in the configuration.
    path: str
    # A sentence for people with the names that it resembles.
    msg: str


def near_misses(account: Account, *, access: Any, router: Any) -> list[NearMiss]:
    """The near misses among the model entries of a valid `access` and `router`, in their order.

    Args:
        account: the account of the configuration.
        access: JSON in which `configurations.scope` found no fault, or None.
        router: JSON in which `configurations.router` found no fault, or None.
    """
    catalog = held_catalog()
    unknown = [(path, entry) for path, entry in _entries(access, router) if not _is_known(catalog, entry)]
    if not unknown:
        return []
    providers = KnownProviders.of(account)
    found = []
    for path, entry in unknown[:_MOST_SEARCHES]:
        near = _nearest(catalog, providers, entry)
        if near:
            found.append(NearMiss(path, f"The catalog does not have this model. Did you mean {' or '.join(near)}?"))
    return found


def _entries(access: Any, router: Any) -> Iterator[tuple[str, str]]:
    """Yield each model entry with its JSON path."""
    for place, entry in enumerate(((access or {}).get("models") or {}).get("allow") or ()):
        yield f"access.models.allow[{place}]", entry
    for place, rule in enumerate((router or {}).get("rules") or ()):
        if "model" in rule:
            yield f"router.rules[{place}].model", rule["model"]


def _is_known(catalog: Catalog, entry: str) -> bool:
    provider, model = split(entry)
    if provider:
        # A fine-tuned model is its account's own, and not in the catalog.
        provider, model = built_in_model(provider, model)
        return model.startswith(f"{FINE_TUNED}:") or catalog.find(provider, model) is not None
    owner, _, own = entry.partition("/")
    return bool(catalog.serving(entry)) or catalog.find(*built_in_model(owner, own)) is not None


def _nearest(catalog: Catalog, providers: KnownProviders, entry: str) -> list[str]:
    """The entries that this one resembles. A custom provider's models are its own matter."""
    named, model = split(entry)
    owner, own = (named, model) if named else (entry.partition("/")[0], entry.partition("/")[2])
    provider = providers.find(owner)
    if provider is not None:
        if providers.custom_id(provider) is not None:
            return []
        return [f"{provider}:{near}" for near in catalog.nearest_models_of(provider, own)]
    # An open model ID may be served by several providers, so none is suggested.
    near_by = (near.partition(":")[2] for near in catalog.nearest_models(entry))
    return [near for near in near_by if "/" in near]
