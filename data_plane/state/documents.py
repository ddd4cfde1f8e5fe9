"""Documents as they stand in Redis or in a snapshot file: verified, decoded, and with the version they carry.

What does not verify, is malformed or does not belong where it stands is refused with a reason; it never counts as
absent.

Source: architecture, decision 7; docs/decisions/0007-authenticated-documents.md.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from data_plane.state.bounded_replies import TOO_LARGE
from gateway_core import snapshot
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import ModelsDocument
from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.snapshot import (
    CATALOG,
    MANAGED_DOCUMENT,
    MAX_DOCUMENT_BYTES,
    MODELS_DOCUMENT,
    ChangeDocument,
    DocumentNotUnderstood,
    DocumentRefused,
    Keys,
    ManagedKeysDocument,
    TokenDocument,
)

CATALOG_DOCUMENTS: Final = (MODELS_DOCUMENT, MANAGED_DOCUMENT)


class DocumentNotTaken(Exception):
    """A document that was not taken: where it stood, and why."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        self.reason = reason


class Versioned(NamedTuple):
    """A document as it was read. None: deleted, or of a kind or form that this release does not understand."""

    version: int
    document: msgspec.Struct | None
    is_understood: bool = True
    # As it was read, where a file keeps what is held (data_plane.state.snapshot_file).
    envelope: bytes | None = None


class StreamChange(NamedTuple):
    """One entry of the change stream, read."""

    account: str
    version: int
    documents: dict[str, Versioned]
    is_partial: bool


class Contents(NamedTuple):
    """An account's hash, read. `refused`: the documents that were there and not taken."""

    version: int
    documents: dict[str, Versioned]
    refused: frozenset[str]
    # Made of these documents, for the one who installs them; without its version.
    prepared: AccountSnapshot | None = None


class DocumentReader:
    """Verifies and decodes what stands in Redis."""

    def __init__(self, keys: Keys, document_keys: DocumentKeys, *, keeps_envelopes: bool = False) -> None:
        self.keys = keys
        self._document_keys = document_keys
        self._keeps_envelopes = keeps_envelopes

    def document(self, account: str, name: str, envelope: bytes) -> Versioned:
        """A document of an account (or of the catalog), or a token's.

        Raises:
            DocumentNotTaken: not authentic for this place, or not such a document.
        """
        location = self.keys.location(account, name)
        kept = envelope if self._keeps_envelopes else None
        if envelope is TOO_LARGE:
            raise DocumentNotTaken(shown(location), "larger than a worker reads")
        try:
            version, body = self._document_keys.verify(Purpose.DOCUMENT, location, envelope, limit=MAX_DOCUMENT_BYTES)
            document = _read_catalog(name, body) if account == CATALOG else snapshot.read(name, body)
            return Versioned(version, document, envelope=kept)
        except DocumentNotUnderstood:
            return Versioned(version, None, is_understood=False, envelope=kept)
        except (NotAuthentic, DocumentRefused) as fault:
            raise DocumentNotTaken(shown(location), str(fault)) from None

    def change(self, account: str, envelope: bytes) -> StreamChange:
        """An entry of the change stream with every document in it. One that is refused refuses the whole entry.

        Raises:
            DocumentNotTaken: as `document`.
        """
        location = self.keys.change(account)
        if envelope is TOO_LARGE:
            raise DocumentNotTaken(shown(location), "larger than a worker reads")
        try:
            version, body = self._document_keys.verify(Purpose.CHANGE, location, envelope)
            change = snapshot.decode(ChangeDocument, body)
        except (NotAuthentic, DocumentRefused) as fault:
            raise DocumentNotTaken(shown(location), str(fault)) from None
        documents = {}
        for name, inner in change.documents.items():
            read = Versioned(version, None) if inner is None else self.document(account, name, inner)
            self._check_belongs(account, name, read, version)
            documents[name] = read
        return StreamChange(account, version, documents, change.is_partial)

    def contents(
        self, account: str, version: int, fields: Iterable[tuple[str, bytes]]
    ) -> tuple[Contents, list[DocumentNotTaken]]:
        """Some fields of an account's hash whose version is known; a field that is refused refuses only itself."""
        documents: dict[str, Versioned] = {}
        refusals: dict[str, DocumentNotTaken] = {}
        for name, envelope in fields:
            try:
                read = self.document(account, name, envelope)
                self._check_belongs(account, name, read, version)
            except DocumentNotTaken as refusal:
                refusals[name] = refusal
            else:
                documents[name] = read
        return Contents(version, documents, frozenset(refusals)), list(refusals.values())

    def _check_belongs(self, account: str, name: str, read: Versioned, version: int) -> None:
        if read.version > version:
            raise DocumentNotTaken(shown(self.keys.location(account, name)), "newer than the version of its account")
        if isinstance(read.document, TokenDocument) and read.document.account != account:
            raise DocumentNotTaken(shown(self.keys.location(account, name)), "a token of another account")


def not_understood(documents: Mapping[str, Versioned]) -> frozenset[str]:
    """The names of the documents that this release does not understand."""
    return frozenset(name for name, read in documents.items() if not read.is_understood)


def _read_catalog(name: str, body: bytes) -> msgspec.Struct | None:
    if name == MANAGED_DOCUMENT:
        return snapshot.decode(ManagedKeysDocument, body)
    if name != MODELS_DOCUMENT:
        return None
    try:
        document = _models_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        raise DocumentRefused(f"not a ModelsDocument: {type(fault).__name__}") from None
    if document.must_understand:
        raise DocumentNotUnderstood("a ModelsDocument with fields that this release does not understand")
    return document


_models_decoder: Final = msgspec.json.Decoder(ModelsDocument)


def shown(location: str) -> str:
    """A location as one line, for logs and reports."""
    return location.rstrip("\n").replace("\n", " ")
