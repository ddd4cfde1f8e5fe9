"""The catalog: the built-in providers' models, and the providers that the operator has a key for.

Only the control plane loads the price data (about 30 MB in memory); workers get the names and prices.
"""

from typing import NamedTuple

import msgspec
from genai_prices import data_snapshot

from gateway_core.catalog import Catalog, ModelsDocument
from gateway_core.snapshot import MANAGED_DOCUMENT, MODELS_DOCUMENT, ManagedKeysDocument
from providers import catalog_models, price_refresh
from providers.models import ManagedKey


def build_models_document() -> ModelsDocument:
    """The models of every built-in provider, from the price data that this process uses (providers.price_refresh).

    Source: docs/decisions/0008-catalog.md.
    """
    return catalog_models.models_document_of(data_snapshot.get_snapshot())


def build_documents() -> dict[str, msgspec.Struct]:
    """The catalog's documents for the data plane, by name: the models, and the operator's sealed keys."""
    price_refresh.follow()
    return {
        MODELS_DOCUMENT: build_models_document(),
        MANAGED_DOCUMENT: ManagedKeysDocument(
            keys={key.provider: bytes(key.sealed) for key in ManagedKey.objects.order_by("provider")}
        ),
    }


class _Indexed(NamedTuple):
    models: ModelsDocument
    managed: frozenset[str]
    catalog: Catalog


# Indexing the names costs 3 ms, and the models are the very same object until prices are refreshed.
_indexed: list[_Indexed] = []


def current_catalog() -> Catalog:
    """The current catalog, for `explain` and the catalog's routes. Two queries."""
    price_refresh.follow()
    return _index(frozenset(ManagedKey.objects.values_list("provider", flat=True)))


def held_catalog() -> Catalog:
    """The catalog that this process has read last, without a query. It may be old; use it for suggestions only."""
    return _index(_indexed[0].managed if _indexed else frozenset())


def _index(managed: frozenset[str]) -> Catalog:
    models = build_models_document()
    if not _indexed or _indexed[0].models is not models or _indexed[0].managed != managed:
        _indexed[:] = [_Indexed(models, managed, Catalog(models, managed=managed))]
    return _indexed[0].catalog
