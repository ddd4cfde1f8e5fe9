"""Build an account's documents from its rows, and find the references between them."""

import traceback
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec
import structlog
from django.db import Error as DatabaseFault

from accounts.models import Account
from gateway_core import snapshot
from gateway_core.snapshot import ConfigurationDocument, ProviderKeyDocument, TokenDocument
from snapshots import document_kinds

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Documents that others refer to, by kind.
_REFERRED = ("configuration:", "provider:", "providerKey:")


@dataclass
class Compiled:
    """The current documents, read within a short time."""

    # By name; None if the object has been deleted.
    documents: dict[str, msgspec.Struct | None] = field(default_factory=dict)
    bodies: dict[str, bytes | None] = field(default_factory=dict)
    # Names of documents that could not be built, with the reason; never anything of the content.
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def references(self) -> set[str]:
        """The names of all documents that these documents refer to."""
        return {name for document in self.documents.values() if document is not None for name in references(document)}

    @property
    def deleted(self) -> set[str]:
        """The names of deleted documents that others may have referred to."""
        return {name for name, document in self.documents.items() if document is None and name.startswith(_REFERRED)}


def references(document: msgspec.Struct) -> Iterator[str]:
    """The names of the documents that this document refers to.

    They include names of built-in providers, which have no documents.
    """
    match document:
        case TokenDocument(configuration=str() as configuration):
            yield snapshot.configuration_document(configuration)
        case ProviderKeyDocument():
            yield snapshot.provider_document(document.provider)
        case ConfigurationDocument():
            for provider in document.scope.providers or ():
                yield snapshot.provider_document(provider)
            for rule in document.rules:
                yield snapshot.provider_document(rule.provider)
                for step in rule.steps:
                    for key in step.keys:
                        yield snapshot.provider_key_document(key)


def compile_documents(account: Account, names: Collection[str]) -> Compiled:
    """Build these documents from the current rows. A document is read before the documents that it refers to.

    A document that cannot be built is listed in `faults`; the others are built anyway.
    """
    compiled = Compiled()
    by_kind: dict[document_kinds.Kind, list[str]] = defaultdict(list)
    for name in names:
        try:
            by_kind[document_kinds.kind_of(name)].append(name)
        except document_kinds.UnknownKind as fault:
            compiled.faults[name] = str(fault)
    for kind in document_kinds.kinds():
        if kind in by_kind:
            _compile_kind(compiled, account, kind, by_kind[kind])
    return compiled


def _compile_kind(compiled: Compiled, account: Account, kind: document_kinds.Kind, names: list[str]) -> None:
    try:
        found = kind.documents(account, names)
    except DatabaseFault:
        raise
    except Exception as fault:  # noqa: BLE001 -- one faulty document must not stop the others
        if len(names) > 1:
            # Build each alone, to find the faulty one.
            for name in names:
                _compile_kind(compiled, account, kind, [name])
            return
        log_fault("a document could not be compiled", fault, account=account.text_id, document=names[0])
        compiled.faults[names[0]] = type(fault).__name__
        return
    for name in names:
        if name not in found:
            compiled.faults[name] = f"the documents of kind {kind.name} lack it"
            continue
        put(compiled, name, found[name])


def log_fault(event: str, fault: Exception, **facts: str) -> None:
    """Log an exception from another room's code: its type and line, never its text, which may quote a value."""
    frame = traceback.extract_tb(fault.__traceback__)[-1]
    log.error(event, fault=type(fault).__name__, place=f"{frame.filename}:{frame.lineno}", **facts)


def put(compiled: Compiled, name: str, document: msgspec.Struct | None) -> None:
    """Add one document, or a fault if it is larger than workers accept."""
    body = None if document is None else snapshot.encode(document)
    if body is not None and len(body) > snapshot.MAX_DOCUMENT_BYTES:
        compiled.faults[name] = f"{len(body)} bytes are over the limit of {snapshot.MAX_DOCUMENT_BYTES}"
        return
    compiled.documents[name] = document
    compiled.bodies[name] = body
