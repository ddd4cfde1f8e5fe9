"""Build custom providers' documents for the data plane."""

import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import msgspec
from django.db.models import QuerySet

from accounts.models import Account
from gateway_core import base_urls
from gateway_core.catalog import Format, KeyHeader, Surface
from gateway_core.snapshot import ProviderDocument, SurfaceSupport
from gateway_core.upstream_requests import SurfacePath, read_path
from providers.models import Provider, ProviderModel

# Named alike in the rows, in the documents and on the wire.
_DEVIATIONS: Final = ("auth", "headers", "paths", "dialect")


def documents(account: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
    """The named documents in their current state; None for one that must be deleted."""
    slugs = {name.partition(":")[2]: name for name in names}
    found: dict[str, msgspec.Struct | None] = dict.fromkeys(names)
    for provider in _rows([account]).filter(slug__in=slugs):
        found[provider.snapshot_document] = build(provider)
    return found


def all_documents(accounts: Collection[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
    """Yield (account, name, document) for every custom provider of these accounts, row by row."""
    owners = {account.id: account for account in accounts}
    for row in _rows(accounts):
        yield owners[row.account_id], row.snapshot_document, build(row)


def for_names(account: Account, requested: Collection[str]) -> Iterator[tuple[str, ProviderDocument]]:
    """Yield (name, document) for every custom provider, with the models that a decision about these names needs.

    An account may have tens of thousands of models, and a question names a few. A model whose name, or an end of it
    after `/` or `:`, is such an end of a requested name may matter; no other one is looked up (gateway_core.policy).
    """
    providers = list(Provider.objects.filter(account=account).order_by("id"))
    if not providers:
        return
    wanted = {end for name in requested for end in _ends(name)}
    models: dict[uuid.UUID, list[str]] = {}
    rows = ProviderModel.objects.filter(provider__account=account).order_by("id")
    for owner, model in rows.values_list("provider_id", "model_id"):
        if not wanted.isdisjoint(_ends(model)):
            models.setdefault(owner, []).append(model)
    for provider in providers:
        yield provider.snapshot_document, _document(provider, models.get(provider.id, ()))


def _ends(name: str) -> list[str]:
    """A name without case, and what stands in it behind each `/` or `:`."""
    folded = name.casefold()
    return [folded, *(folded[place + 1 :] for place, character in enumerate(folded) if character in "/:")]


def build(provider: Provider) -> ProviderDocument:
    """The document of one provider. Its URL is the canonical one: the data plane reads no other."""
    return _document(provider, [model.model_id for model in provider.models_by_age])


def _document(provider: Provider, models: Iterable[str]) -> ProviderDocument:
    return ProviderDocument(
        id=provider.text_id,
        name=provider.name,
        base_url=base_urls.parse(provider.base_url).text,
        surfaces=tuple(_surfaces(provider.supported_api_surfaces)),
        models=tuple(models),
        auth=None
        if provider.auth is None
        else KeyHeader(provider.auth["header"].lower(), provider.auth.get("prefix", "")),
        headers={name.lower(): value for name, value in (provider.headers or {}).items()},
        paths={surface: _path(provider.base_url, path) for surface, path in (provider.paths or {}).items()},
        dialect=provider.dialect or "",
        # A worker that ignored one of these would show a key in another header, or at another path.
        must_understand=tuple(name for name in _DEVIATIONS if getattr(provider, name)),
    )


def _path(base_url: str, text: str) -> str:
    """A surface's path from the root of the host. The default path of a base URL is not part of it."""
    path, query = read_path(text)
    return SurfacePath(base_urls.written_path(base_url) + path, query).text


def _rows(accounts: Collection[Account]) -> QuerySet[Provider]:
    return Provider.objects.filter(account__in=accounts).order_by("id").prefetch_related("models")


def _surfaces(written: list[dict[str, Any]]) -> Iterator[SurfaceSupport]:
    """Yield the surfaces of a provider. An entry without a surface means all of its format; no entries mean OpenAI's.

    An entry for a surface has precedence over an entry for its format.
    """
    entries = sorted(written or [{"format": Format.OPENAI.value}], key=lambda entry: "surface" not in entry)
    seen: set[Surface] = set()
    for entry in entries:
        surfaces = (Surface(entry["surface"]),) if "surface" in entry else Format(entry["format"]).surfaces
        supported = entry.get("supportedParams")
        parameters = None if supported is None else tuple(one["name"] for one in supported)
        for surface in surfaces:
            if surface not in seen:
                seen.add(surface)
                yield SurfaceSupport(surface, parameters)
