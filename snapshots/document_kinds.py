"""The kinds of documents in the snapshot. Resource apps register the functions that turn their rows into documents.

This module knows no resource. A document's kind is the first part of its name (`token`, `configuration`, `provider`,
`providerKey`, `settings`). An app registers its kind in its AppConfig's `ready`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from accounts.models import Account
from gateway_core.ports import Port

# Returns the account's current documents by name, with an entry for each given name; None if the object is deleted.
Documents = Callable[[Account, Collection[str]], Mapping[str, msgspec.Struct | None]]
# Yields (account, name, document) for every document of the kind of these accounts, row by row. One account may have a
# million of them, and a rebuild asks for many small accounts at once.
AllDocuments = Callable[[Collection[Account]], Iterator[tuple[Account, str, msgspec.Struct]]]
# Returns the account of each named document whose object exists.
Owners = Callable[[Collection[str]], Mapping[str, Account]]
# Returns every document of the catalog by name; one of them is `models`.
CatalogDocuments = Callable[[], Mapping[str, msgspec.Struct]]


class UnknownKind(LookupError):
    """No kind of document has this name."""


@dataclass(frozen=True)
class Kind:
    """One kind of document with the app's two functions that read it. Both limit their queries to the accounts."""

    name: str
    documents: Documents
    all_documents: AllDocuments
    # Only where a name does not stand below its account in Redis.
    owners: Owners | None = None


# In reading order: a kind comes before the kinds that it refers to. So a document is never read later than the
# documents that it refers to.
_KINDS: Final[dict[str, Port[Kind]]] = {
    name: Port(f"documents of kind {name}")
    for name in ("token", "configuration", "providerKey", "provider", "settings")
}
CATALOG: Final[Port[CatalogDocuments]] = Port("the documents of the catalog")


def port_of(name: str) -> Port[Kind]:
    """The port where an app provides a kind of document.

    Raises:
        UnknownKind: no kind has this name.
    """
    if name not in _KINDS:
        raise UnknownKind(UnknownKind.__doc__)
    return _KINDS[name]


def provide(name: str, *, documents: Documents, all_documents: AllDocuments, owners: Owners | None = None) -> None:
    """Provide a kind of document.

    Args:
        name: the first part of the documents' names, without the colon.
        documents: returns the current documents with these names; it makes one query or a few.
        all_documents: streams every document of these accounts.
        owners: finds the accounts of documents by their names alone.
    """
    port_of(name).provide(Kind(name, documents, all_documents, owners))


def kinds() -> list[Kind]:
    """Every kind, in reading order."""
    return [port.get() for port in _KINDS.values()]


def kind_of(document: str) -> Kind:
    """The kind of a document, from its name.

    Raises:
        UnknownKind: no kind has this name.
    """
    return port_of(document.partition(":")[0]).get()


def owners_of(names: Collection[str]) -> Mapping[str, Account]:
    """The accounts of some tokens' documents, by the documents' names. A token whose object does not exist is left out.

    Args:
        names: `token:<digest>`, any number; one query.
    """
    owners = port_of("token").get().owners
    if owners is None:
        raise UnknownKind("tokens have no owners")
    return owners(names)


def all_documents(account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
    """Yield (name, document) for every document of an account. Call it in a transaction."""
    for kind in kinds():
        for _, name, document in kind.all_documents([account]):
            yield name, document


def build_catalog() -> Mapping[str, msgspec.Struct]:
    """The catalog's current documents by name."""
    return CATALOG.get()()
