"""Which room knows what about the snapshot: each resource app registers how its rows look to the data plane.

This module knows no resource. A document's kind is what its name begins with (`token`, `configuration`, `provider`,
`providerKey`, `settings`); an app registers its kinds in its AppConfig's `ready`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from accounts.models import Account

# What an account's documents of these names hold now; None where the object is gone. Every name gets an answer.
Documents = Callable[[Account, Collection[str]], Mapping[str, msgspec.Struct | None]]
# Every document of the kind that these accounts have, a row at a time: an account may have a million of them, and a
# rebuild asks for many small accounts at once.
AllDocuments = Callable[[Collection[Account]], Iterator[tuple[Account, str, msgspec.Struct]]]
# Every document of the catalog by its name, `models` among them.
CatalogDocuments = Callable[[], Mapping[str, msgspec.Struct]]


class UnknownKind(LookupError):
    """No app has registered documents of this kind."""


@dataclass(frozen=True)
class Kind:
    """One kind of document and the app's two ways of reading it. Both begin their queries from the accounts."""

    name: str
    # Lower ones are read first: those that refer come before what they refer to, so that what a document refers to is
    # never read at an earlier moment than the document.
    order: int
    documents: Documents
    all_documents: AllDocuments


TOKEN: Final = 10
CONFIGURATION: Final = 20
PROVIDER_KEY: Final = 30
PROVIDER: Final = 40
SETTINGS: Final = 50

_kinds: dict[str, Kind] = {}
_catalog: list[CatalogDocuments] = []


def register(*, kind: str, order: int, documents: Documents, all_documents: AllDocuments) -> None:
    """Tell how documents of a kind are read. A second registration of a kind replaces the first.

    Args:
        kind: what the documents' names begin with, without the colon.
        order: one of this module's orders; referrers are lower.
        documents: what documents of these names hold now, read in one query or a few.
        all_documents: every document of these accounts, streamed.
    """
    _kinds[kind] = Kind(kind, order, documents, all_documents)


def register_catalog(build: CatalogDocuments) -> None:
    """Tell how the catalog's documents are built. They belong to no account."""
    _catalog[:] = [build]


def kinds() -> list[Kind]:
    """Every kind, in reading order."""
    return sorted(_kinds.values(), key=lambda kind: kind.order)


def kind_of(document: str) -> Kind:
    """The kind of a document, by its name.

    Raises:
        UnknownKind: nobody registered it.
    """
    kind = _kinds.get(document.partition(":")[0])
    if kind is None:
        raise UnknownKind(UnknownKind.__doc__)
    return kind


def all_documents(account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
    """Every document of an account, of every kind. In a transaction."""
    for kind in kinds():
        for _, name, document in kind.all_documents([account]):
            yield name, document


def build_catalog() -> Mapping[str, msgspec.Struct]:
    """The catalog's documents as they are now, by name; none while no app builds any."""
    return _catalog[0]() if _catalog else {}
