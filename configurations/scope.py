"""The access scope: the providers and models that the access keys of a configuration may use.

This module does not use the database; the account's objects are arguments.

Source: contract, section 3.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from configurations.faults import Faults
from configurations.names import compiled_model, read_model, read_provider
from gateway_core import ids
from gateway_core.snapshot import Scope
from providers.provider_names import KnownProviders

MAX_ENTRIES: Final = 1000


def check(access: object, *, providers: KnownProviders, faults: Faults) -> set[str]:
    """Check an `access` by every rule.

    Args:
        access: JSON as a client wrote it.
        providers: the providers that the account can name.
        faults: receives each fault, under `access`.

    Returns:
        The `providerId`s of all providers that it names, alone or in a model.
    """
    dimensions = faults.fields(access, "access", known=("providers", "models"))
    if dimensions is None:
        return set()
    named: set[str] = set()
    seen_providers: dict[str, str] = {}
    for path, entry in _entries(dimensions, "providers", faults):
        provider = read_provider(entry, path, providers=providers, faults=faults)
        if provider is None:
            continue
        named.add(provider)
        if provider in seen_providers:
            faults.add(path, f"This names the same provider as {seen_providers[provider]}.")
        seen_providers.setdefault(provider, path)
    seen_models: dict[tuple[str, str], str] = {}
    for path, entry in _entries(dimensions, "models", faults):
        model = read_model(entry, path, providers=providers, faults=faults)
        if model is None:
            continue
        if model.named is not None:
            named.add(model.named)
        if model.key in seen_models:
            faults.add(path, f"This names the same model as {seen_models[model.key]}.")
        seen_models.setdefault(model.key, path)
    return named


def compile_scope(access: Mapping[str, Any] | None, slug_of: Callable[[str], str]) -> Scope:
    """The scope of a stored `access`, in the data plane's form.

    Args:
        access: an `access` in which `check` found no fault.
        slug_of: returns the `providerId` that an `aigp_…` ID, an alias or `ft` means; any other text unchanged.
    """
    providers = _allowed(access, "providers")
    models = _allowed(access, "models")
    return Scope(
        providers=None if providers is None else tuple(slug_of(entry) for entry in providers),
        models=None if models is None else tuple(_compiled(entry, slug_of) for entry in models),
    )


def _compiled(entry: str, slug_of: Callable[[str], str]) -> tuple[str, str]:
    provider, model = compiled_model(entry, slug_of)
    if provider:
        return provider, model
    owner, _, own = entry.partition("/")
    # Of other providers' models an alias is a part of the name, as in groq's `moonshotai/kimi-k2-instruct`.
    return "", f"{slug_of(owner) if owner.startswith(ids.Prefix.PROVIDER) else owner}/{own}"


def _entries(dimensions: Mapping[str, Any], dimension: str, faults: Faults) -> list[tuple[str, Any]]:
    if dimension not in dimensions:
        return []
    path = f"access.{dimension}"
    fields = faults.fields(dimensions[dimension], path, known=("allow",))
    if fields is None or "allow" not in fields:
        return []
    return list(faults.items(fields["allow"], f"{path}.allow", most=MAX_ENTRIES))


def _allowed(access: Mapping[str, Any] | None, dimension: str) -> list[str] | None:
    allowed: list[str] | None = ((access or {}).get(dimension) or {}).get("allow")
    return allowed
