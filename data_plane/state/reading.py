"""Reads of Redis for what the worker holds: each verified, and valid at a known position of the change stream.

A read counts only if the change stream has passed the position at which Redis answered, and if Redis was not rebuilt
meanwhile. So a document is never older than the position that the worker reports.

Source: architecture, decision 8; docs/decisions/0050-worker-store.md.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from data_plane.state.bounded_replies import BoundedParser
from data_plane.state.documents import CATALOG_DOCUMENTS, Contents, DocumentNotTaken, Versioned
from data_plane.state.store import Loading, WorkerState
from data_plane.state.sync import NotInSync, Sync
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.redis_errors import Trouble, trouble_of
from gateway_core.snapshot import CATALOG, MODELS_DOCUMENT, VERSION_DOCUMENT, EpochInRedis, Keys, token_document

log = structlog.get_logger("data_plane.state.reading")

_BLOCK_MS: Final = 500
_REDIS_TIMEOUT: Final = 2.0
# An entry may have 256 KiB. All entries of one read are applied before another request gets its turn.
_ENTRIES_AT_ONCE: Final = 100
_WAIT_FOR_POSITION: Final = 2.0
_READS_AT_ONCE: Final = 16
# So many documents, or bytes of them, are verified before other requests get their turn.
_DOCUMENTS_AT_ONCE: Final = 50
_BYTES_AT_ONCE: Final = 64 * 1024
TOKENS_AT_ONCE: Final = 500
# The highest second part of an entry's ID. Entries of ours have 0 there.
_LAST_OF_NUMBER: Final = 2**64 - 1
ANOTHER_TYPE: Final = "its key in Redis is of another type"


class Entry(NamedTuple):
    """An entry of the change stream, not yet verified."""

    number: int
    account: str
    envelope: bytes
    # Whether its ID is of the form that publications write.
    is_numbered: bool


class SnapshotReader:
    """Reads the change stream, accounts, tokens and the catalog."""

    def __init__(self, redis: Redis, keys: Keys, store: WorkerState, sync: Sync) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._sync = sync
        self._reads_at_once = asyncio.Semaphore(_READS_AT_ONCE)

    async def read_entries(self, *, block_ms: int | None = _BLOCK_MS) -> tuple[list[Entry], EpochInRedis]:
        """The next entries of the change stream, and the epoch. The epoch is read after them: none is ahead of it.

        Args:
            block_ms: wait up to this long for the first entry; None does not wait.

        Raises:
            NotInSync: Redis is empty, or holds no epoch that can be read.
        """
        after = f"{self._store.position}-{_LAST_OF_NUMBER}"
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xread({self._keys.changes: after}, count=_ENTRIES_AT_ONCE, block=block_ms)
            pipeline.hmget(self._keys.epoch, EpochInRedis.FIELDS)
            found, epoch = await pipeline.execute()
        entries = []
        for _, batch in found or ():
            for entry_id, fields in batch:
                number, _, rest = entry_id.partition(b"-")
                account = fields.get(b"account", b"").decode("utf-8", "replace")
                entries.append(Entry(int(number), account, fields.get(b"change", b""), rest == b"0"))
        return entries, _epoch(epoch)

    async def read_together(self, loading: Loading, *commands: tuple[str, ...]) -> list[Any]:
        """Run commands of Redis, and wait until the worker has passed the position at which Redis answered.

        The epoch is read last, so that its number is not below that at which any of the answers was true. It is not a
        MULTI: a Redis without memory refuses those, and answers these.

        Returns:
            The answer of each command; an exception in the place of one that met a key of another type.

        Raises:
            NotInSync: Redis was emptied or rebuilt meanwhile.
            RedisError: a command failed for another reason.
        """
        async with self._reads_at_once, self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.hmget(self._keys.epoch, EpochInRedis.FIELDS)
            *answers, found = await asyncio.wait_for(pipeline.execute(raise_on_error=False), _REDIS_TIMEOUT * 2)
        for answer in (*answers, found):
            if isinstance(answer, Exception) and (answer is found or not _is_of_another_type(answer)):
                raise answer
        epoch = _epoch(found)
        if not epoch.is_complete or epoch.id != loading.epoch or epoch.number < loading.position:
            raise NotInSync("Redis changed its state while it was read")
        async with asyncio.timeout(_WAIT_FOR_POSITION):
            while self._store.position < epoch.number:
                await self._sync.moved.wait()
        return answers

    def check_is_continued(self, loading: Loading) -> None:
        """
        Raises:
            NotInSync: the follower started again during this read, so changes in between were not passed.
        """
        if not self._store.is_continued(loading):
            raise NotInSync("Redis began a new epoch while it was read")

    async def read_token(self, loading: Loading, digest: str) -> Versioned | None:
        """A token's document; None where Redis has none.

        Raises:
            DocumentNotTaken: it does not verify.
            NotInSync: as `read_together`.
        """
        (found,) = await self.read_together(loading, ("GET", self._keys.token(digest)))
        if _is_of_another_type(found):
            raise self.refuse("", token_document(digest), ANOTHER_TYPE)
        # A token stands at its digest, whichever account owns it.
        return None if found is None else self.verify("", token_document(digest), found)

    async def read_tokens(
        self, loading: Loading, account: str, digests: list[str]
    ) -> tuple[dict[str, Versioned | None], set[str]]:
        """Tokens of an account, in pieces.

        Returns:
            (tokens, refused): the documents by digest, None where Redis has none; the digests of those that do not
            verify.
        """
        tokens: dict[str, Versioned | None] = {}
        refused: set[str] = set()
        for start in range(0, len(digests), TOKENS_AT_ONCE):
            part = digests[start : start + TOKENS_AT_ONCE]
            (found,) = await self.read_together(loading, ("MGET", *map(self._keys.token, part)))
            held = dict(zip(part, found, strict=True))
            # MGET answers the same for a key of another type and for none.
            if without := [digest for digest, envelope in held.items() if envelope is None]:
                again = await self.read_together(loading, *(("GET", self._keys.token(digest)) for digest in without))
                held |= zip(without, again, strict=True)
            for digest, envelope in held.items():
                if _is_of_another_type(envelope):
                    self.refuse(account, token_document(digest), ANOTHER_TYPE)
                    refused.add(digest)
                elif envelope is None:
                    tokens[digest] = None
                    continue
                try:
                    tokens[digest] = self.verify(account, token_document(digest), envelope)
                except DocumentNotTaken:
                    refused.add(digest)
            await asyncio.sleep(0)
        return tokens, refused

    async def read_account(self, loading: Loading, account: str) -> Contents:
        """An account's hash, without its tokens.

        Raises:
            DocumentNotTaken: its version is missing or does not verify, or its key is of another type.
            NotInSync: as `read_together`.
        """
        (fields,) = await self.read_together(loading, ("HGETALL", self._keys.account(account)))
        if _is_of_another_type(fields):
            raise self.refuse(account, VERSION_DOCUMENT, ANOTHER_TYPE)
        envelope = fields.pop(VERSION_DOCUMENT.encode(), None)
        if envelope is None:
            raise self.refuse(account, VERSION_DOCUMENT, "missing")
        version = self.verify(account, VERSION_DOCUMENT, envelope).version
        names = [(name.decode("utf-8", "surrogateescape"), field) for name, field in fields.items()]
        return await self.verify_all(account, version, names)

    async def read_catalog(self) -> tuple[dict[str, Versioned], int]:
        """The catalog.

        Returns:
            (documents, position): the documents by name, and where the change stream stood when they were read.

        Raises:
            DocumentNotTaken: one of them does not verify, or the key is of another type.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(self._keys.catalog, CATALOG_DOCUMENTS)
            # After them: a change that they hold already must not look like an older one that was put back.
            pipeline.hget(self._keys.epoch, "number")
            found, number = await pipeline.execute(raise_on_error=False)
        if _is_of_another_type(found):
            raise self.refuse(CATALOG, MODELS_DOCUMENT, ANOTHER_TYPE)
        for answer in (number, found):
            if isinstance(answer, Exception):
                raise answer
        if found[0] is None:
            log.warning("there is no catalog in Redis yet")
        documents = {
            name: self.verify(CATALOG, name, envelope)
            for name, envelope in zip(CATALOG_DOCUMENTS, found, strict=True)
            if envelope is not None
        }
        return documents, int(number) if number and number.isdigit() else 0

    async def verify_all(self, account: str, version: int, envelopes: list[tuple[str, bytes]]) -> Contents:
        """Verify an account's documents (name, envelope) in pieces. Those that do not verify stand in `refused`."""
        documents: dict[str, Versioned] = {}
        refused: set[str] = set()
        prepared = AccountSnapshot(account)
        for piece in _in_pieces(envelopes):
            part, refusals = self._store.reader.contents(account, version, piece)
            documents |= part.documents
            refused |= part.refused
            prepared.prepare(
                {name: read.document for name, read in part.documents.items() if read.document is not None}
            )
            for refusal in refusals:
                self._store.refuse(refusal)
            await asyncio.sleep(0)
        return Contents(version, documents, frozenset(refused), prepared)

    def verify(self, account: str, name: str, envelope: bytes) -> Versioned:
        """Verify one document. A refusal is remembered and logged.

        Raises:
            DocumentNotTaken: it does not verify.
        """
        try:
            return self._store.reader.document(account, name, envelope)
        except DocumentNotTaken as refusal:
            self._store.refuse(refusal)
            self.log_refusals()
            raise

    def refuse(self, account: str, name: str, reason: str) -> DocumentNotTaken:
        """Remember and log a refusal; the exception to raise."""
        self._store.refuse_document(account, name, reason)
        self.log_refusals()
        return DocumentNotTaken(self._keys.location(account, name).strip().replace("\n", " "), reason)

    def log_refusals(self) -> None:
        """Log the refusals since the last call."""
        for refusal in self._store.news:
            log.error("a document was refused", location=refusal.location, reason=refusal.reason)
        self._store.news.clear()


def _in_pieces(envelopes: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Documents that are verified before other requests get their turn."""
    piece: list[tuple[str, bytes]] = []
    length = 0
    for name, envelope in envelopes:
        piece.append((name, envelope))
        length += len(envelope)
        if len(piece) >= _DOCUMENTS_AT_ONCE or length >= _BYTES_AT_ONCE:
            yield piece
            piece, length = [], 0
    if piece:
        yield piece


def redis_client(url: str) -> Redis:
    """A client with short timeouts and without retries: its callers know better what to do then."""
    return Redis.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        parser_class=BoundedParser,
    )


def reason_of(fault: BaseException) -> str:
    """A fault as one field of a log line."""
    return f"{type(fault).__name__}: {fault}"


def log_load_fault(what: str, fault: BaseException) -> None:
    """Log why a load failed: Redis's trouble as a warning, a mistake of ours with its traceback."""
    if isinstance(fault, NotInSync | RedisError | OSError):
        log.warning(what, reason=reason_of(fault))
    elif not isinstance(fault, DocumentNotTaken):  # those are logged when they are refused
        log.error(what, exc_info=fault)


def _epoch(found: Iterable[bytes | None]) -> EpochInRedis:
    identity, complete, number = found
    if not identity:
        raise NotInSync("Redis is empty")
    epoch = EpochInRedis.of((identity, complete, number or b"0"))
    if not identity.isascii() or epoch.number < 0:
        raise NotInSync("Redis holds no epoch that can be read")
    return epoch


def _is_of_another_type(answer: Any) -> bool:
    return isinstance(answer, Exception) and trouble_of(answer) is Trouble.WRONG_TYPE
