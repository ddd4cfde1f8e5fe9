"""Sign the documents in Redis with the current document key: the last step before an old key is withdrawn.

A document keeps its version and body and gets another signature, by compare-and-set on the envelope that was read.
Nothing is published, so no change, version or epoch is written; workers and writers are not disturbed.

Only documents that verify are signed again. The holder of a leaked key may have signed forged documents: then run a
rebuild, which writes everything from PostgreSQL.

Source: docs/decisions/0111-withdrawing-a-document-key.md.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from gateway_core import snapshot
from gateway_core.envelopes import NotAuthentic, Purpose, signing_key_of
from gateway_core.redis_rights import literal
from gateway_core.usage_events import BATCH_FIELD
from snapshots.redis_client import SnapshotRedis, document_keys, keys

CHUNK: Final = 500

# Called repeatedly with (documents seen, documents signed).
Progress = Callable[[int, int], None]


class ResigningResult(NamedTuple):
    """The numbers of documents that were signed or refused."""

    signed: int
    # Documents that none of our keys has signed. The relay's comparison repairs them.
    refused: int


class _Stored(NamedTuple):
    """A document in Redis with its key and field."""

    key: bytes
    # Empty for a token, which has its own Redis key.
    field: bytes
    envelope: bytes

    @property
    def location(self) -> str:
        """The location that its signature includes."""
        return f"{self.key.decode('utf-8', 'replace')}\n{self.field.decode('utf-8', 'replace')}"


def sign_anew(store: SnapshotRedis, *, report: Progress | None = None) -> ResigningResult:
    """Sign with the first document key every document in Redis that another one of our keys has signed.

    Raises:
        RedisError: Redis did not answer. Documents that are signed stay signed; it may be run again.
    """
    present = document_keys().ids[0]
    seen = signed = refused = 0
    documents = _documents(store)
    while chunk := list(itertools.islice(documents, CHUNK)):
        seen += len(chunk)
        places: list[bytes] = []
        arguments: list[bytes] = []
        for document in chunk:
            if signing_key_of(document.envelope) == present:
                continue
            try:
                found = document_keys().verify(Purpose.DOCUMENT, document.location, document.envelope)
            except NotAuthentic:
                refused += 1
                continue
            places.append(document.key)
            new = document_keys().sign(Purpose.DOCUMENT, document.location, found.version, found.body)
            arguments += (document.field, document.envelope, new)
        if places:
            signed += store.sign(keys=places, args=arguments)
        if report:
            report(seen, signed)
    return ResigningResult(signed, refused)


def count_by_key(store: SnapshotRedis) -> Counter[tuple[str, str]]:
    """Count the signatures in Redis by (kind, document key's ID); the kinds are `documents`, `workers` and `usage`.

    `workers` shows which workers still sign with another key. `usage` shows whether batches wait that would be refused
    without that key.
    """
    found: Counter[tuple[str, str]] = Counter()
    for document in _documents(store):
        found["documents", signing_key_of(document.envelope)] += 1
    reports: Any = store.redis.hvals(keys().workers)
    for envelope in reports:
        found["workers", signing_key_of(envelope)] += 1
    last = "-"
    while entries := list(_entries(store, last)):
        for _, fields in entries:
            found["usage", signing_key_of(fields.get(BATCH_FIELD.encode(), b""))] += 1
        last = f"({entries[-1][0].decode()}"
    return found


def _entries(store: SnapshotRedis, after: str) -> Any:
    return store.redis.xrange(keys().usage, min=after, count=CHUNK)


def _documents(store: SnapshotRedis) -> Iterator[_Stored]:
    prefix = literal(keys().prefix)
    tokens: Any = store.redis.scan_iter(match=prefix + snapshot.token_document("*"), count=CHUNK, _type="string")
    while chunk := list(itertools.islice(tokens, CHUNK)):
        values: Any = store.redis.mget(chunk)
        yield from (_Stored(key, b"", one) for key, one in zip(chunk, values, strict=True) if one is not None)
    accounts = store.redis.scan_iter(match=f"{prefix}account:*", count=CHUNK, _type="hash")
    for key in itertools.chain([keys().catalog.encode()], accounts):
        fields: Any = store.redis.hscan_iter(key, count=CHUNK)
        yield from (_Stored(key, field, envelope) for field, envelope in fields)
