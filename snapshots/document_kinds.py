"""The kinds of documents in the snapshot. The resource apps provide how their rows are read as documents.

This module knows no resource. A document's kind is what its name begins with (`token`, `configuration`, `provider`,
`providerKey`, `settings`); an app provides its kind in its AppConfig's `ready`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from accounts.models import Account
from gateway_core.ports import Port

# What an account's documents of these names hold now; None where the object is gone. Every name gets an answer.
Documents = Callable[[Account, Collection[str]], Mapping[str, msgspec.Struct | None]]
# Every document of the kind that these accounts have, a row at a time: an account may have a million of them, and a
# rebuild asks for many small accounts at once.
AllDocuments = Callable[[Collection[Account]], Iterator[tuple[Account, str, msgspec.Struct]]]
# Every document of the catalog by its name, `models` among them.
CatalogDocuments = Callable[[], Mapping[str, msgspec.Struct]]


class UnknownKind(LookupError):
    """There are no documents of this kind."""


@dataclass(frozen=True)
class Kind:
    """One kind of document and the app's two ways of reading it. Both begin their queries from the accounts."""

    name: str
    documents: Documents
    all_documents: AllDocuments


# In reading order: what refers comes before what it refers to, so that what a document refers to is never read at an
# earlier moment than the document.
_KINDS: Final[dict[str, Port[Kind]]] = {
    name: Port(f"documents of kind {name}")
    for name in ("token", "configuration", "providerKey", "provider", "settings")
}
CATALOG: Final[Port[CatalogDocuments]] = Port("the documents of the catalog")


def port_of(name: str) -> Port[Kind]:
    """Where an app provides a kind of document.

    Raises:
        UnknownKind: there is no such kind.
    """
    if name not in _KINDS:
        raise UnknownKind(UnknownKind.__doc__)
    return _KINDS[name]


def provide(name: str, *, documents: Documents, all_documents: AllDocuments) -> None:
    """Provide a kind of document.

    Args:
        name: what the documents' names begin with, without the colon.
        documents: what documents of these names hold now, read in one query or a few.
        all_documents: every document of these accounts, streamed.
    """
    port_of(name).provide(Kind(name, documents, all_documents))


def kinds() -> list[Kind]:
    """Every kind, in reading order."""
    return [port.get() for port in _KINDS.values()]


def kind_of(document: str) -> Kind:
    """The kind of a document, by its name.

    Raises:
        UnknownKind: there is no such kind.
    """
    return port_of(document.partition(":")[0]).get()


def all_documents(account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
    """Every document of an account, of every kind. In a transaction."""
    for kind in kinds():
        for _, name, document in kind.all_documents([account]):
            yield name, document


def build_catalog() -> Mapping[str, msgspec.Struct]:
    """The catalog's documents as they are now, by name."""
    return CATALOG.get()()
