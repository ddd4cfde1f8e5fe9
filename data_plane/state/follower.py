"""The change follower: the only writer of the store, and the only one here who talks to Redis.

It follows the change stream from the position at which it found it, loads an account when one of its tokens is first
shown, and tells of itself. Loads run in tasks of the follower's own: a request that is cut off while it waits for one
takes nothing with it, and never meets another request's answer.

Out of sync (Redis away, empty, or behind what was seen) it changes nothing that is held and judges nothing that is
not.

Source: architecture, decision 8; docs/decisions/0050-worker-store.md.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from data_plane.http.errors import SnapshotUnavailable, SnapshotUnfit
from data_plane.settings import WorkerSettings
from data_plane.state.snapshot_file import Kept
from data_plane.state.store import (
    CATALOG_DOCUMENTS,
    Contents,
    DocumentNotTaken,
    DocumentReader,
    HeldToken,
    Loading,
    Versioned,
    WorkerState,
)
from data_plane.tasks import end
from gateway_core import ids
from gateway_core.release import RELEASE
from gateway_core.snapshot import CATALOG, VERSION_DOCUMENT, Keys, TokenDocument, token_document
from gateway_core.worker_reports import WorkerReport, behind_of, seal_report

log = structlog.get_logger("data_plane.state.follower")

_BLOCK_MS: Final = 500
_REDIS_TIMEOUT: Final = 2.0
# Each may be 256 KiB, and all of them are applied before another request gets its turn.
_ENTRIES_AT_ONCE: Final = 100
_CHECK_SECONDS: Final = 1.0
# Without word from Redis for this long, what is not held cannot be judged.
_IN_SYNC_SECONDS: Final = 2.0
_WAIT_FOR_SYNC: Final = 1.0
_WAIT_FOR_LOAD: Final = 5.0
_WAIT_FOR_POSITION: Final = 2.0
_ACCOUNTS_AT_ONCE: Final = 4
_READS_AT_ONCE: Final = 16
_LOADS_WAITING: Final = 2_000
_LOAD_TRIES: Final = 3
# Documents that are verified before other requests get their turn.
_DOCUMENTS_AT_ONCE: Final = 100
_TOKENS_AT_ONCE: Final = 500
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_MICROSECONDS: Final = 1_000_000


class NotInSync(Exception):
    """Redis is not in a state from which this worker can take anything new."""


class FollowedEpoch(NamedTuple):
    """What `{gw}:epoch` says."""

    id: str
    is_complete: bool
    number: int


class Follower:
    """Keeps a store at the newest position."""

    def __init__(self, settings: WorkerSettings, kept: Kept | None = None) -> None:
        """
        Args:
            settings: the worker's.
            kept: what a worker before this one held; it serves while Redis cannot be asked.
        """
        self.id = ids.to_text(ids.Prefix.WORKER, ids.new_id())
        self.keys = Keys(settings.namespace)
        keeps = settings.snapshot_directory is not None
        self.store = WorkerState(DocumentReader(self.keys, settings.document_keys, keeps_envelopes=keeps))
        # What a file held and was not read anew from Redis yet; None once all of it was, or where there was no file.
        self.kept = kept
        self.requests = 0
        self._document_keys = settings.document_keys
        self._staleness = settings.staleness
        self._spread = settings.loading_spread
        self._redis: Redis = redis_client(settings.redis_url)
        self._host = socket.gethostname()[:255]
        self._started_at = _now()
        self._applied_at = 0
        self._in_sync_at = 0
        self._reported_at = 0
        # Loop times: until when unknown tokens can be judged, and until when known ones can.
        self._in_sync_until = 0.0
        self.usable_until = 0.0
        # The highest position seen in this epoch: a Redis below it has lost something.
        self._highest = 0
        self._is_told_lost = False
        self._moved = asyncio.Event()
        # Redis was asked, whatever came of it.
        self._has_asked = asyncio.Event()
        self._kept_until = 0.0
        self._restoring = asyncio.Lock()
        self._to_report = asyncio.Event()
        self._sending = asyncio.Lock()
        self._is_leaving = False
        self._pause = _FIRST_PAUSE
        self._accounts_at_once = asyncio.Semaphore(_ACCOUNTS_AT_ONCE)
        self._reads_at_once = asyncio.Semaphore(_READS_AT_ONCE)
        self._token_loads: dict[str, asyncio.Task[HeldToken | None]] = {}
        self._account_loads: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._has_begun = False
        # Where the stream stood then.
        self._begun_at = 0
        # What is held and will be read anew at its moment.
        self._due: set[str] = set()

    # ── life ──

    def start(self) -> None:
        """Begin to follow."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._report())]
        if self.kept is not None:
            self._begin_with(self.kept)
            self._tasks.append(asyncio.create_task(self._read_kept_anew(self.kept)))

    async def close(self) -> None:
        """End, and leave the count of workers."""
        self._is_leaving = True
        async with self._sending:
            pass  # a report that is under way must not arrive after the leave
        await end([*self._tasks, *self._token_loads.values(), *self._account_loads.values()])
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(self.keys.workers, self.id)
                self._wake(pipeline)
                await pipeline.execute()
        except (RedisError, OSError) as fault:
            log.warning("this worker stays in the count until it is forgotten", reason=_reason(fault))
        await self._redis.aclose()

    # ── what the rest of the worker asks ──

    @property
    def is_in_sync(self) -> bool:
        """Whether something that is not held can be judged."""
        return asyncio.get_running_loop().time() < self._in_sync_until

    @property
    def is_usable(self) -> bool:
        """Whether what is held may still be served."""
        return asyncio.get_running_loop().time() < self.usable_until

    @property
    def stale_seconds(self) -> float | None:
        """How long ago Redis was last in sync; None if it never was."""
        if not self.usable_until:
            return None
        return max(0.0, asyncio.get_running_loop().time() - (self.usable_until - self._staleness))

    async def find(self, digest: str) -> HeldToken | None:
        """A token that is not held: loaded, with its account. All who ask at the same time wait for one load.

        Raises:
            SnapshotUnavailable: it cannot be judged now.
            SnapshotUnfit: what Redis holds of it does not verify.
        """
        if not self.is_in_sync:
            if self.kept is not None and (token := await self._find_kept(digest)) is not None:
                return token
            await self._await_sync()
        if self.store.is_unknown(digest):
            return None
        load = self._token_loads.get(digest)
        if load is None:
            if len(self._token_loads) >= _LOADS_WAITING:
                raise SnapshotUnavailable
            load = self._token_loads[digest] = asyncio.create_task(self._load_token(digest))
            load.add_done_callback(lambda task: self._end_token_load(digest, task))
        # Not `wait_for`: a request that leaves must not cancel the load that others wait for.
        await asyncio.wait((load,), timeout=_WAIT_FOR_LOAD)
        if not load.done() or load.cancelled():
            raise SnapshotUnavailable
        fault = load.exception()
        if fault is None:
            return load.result()
        raise SnapshotUnfit if isinstance(fault, DocumentNotTaken) else SnapshotUnavailable

    async def _await_sync(self) -> None:
        """A moment's patience: the first contact, a loop that was held up, a Redis that was restarted."""
        try:
            async with asyncio.timeout(_WAIT_FOR_SYNC):
                while not self.is_in_sync:
                    await self._moved.wait()
        except TimeoutError:
            raise SnapshotUnavailable from None

    def _end_token_load(self, digest: str, task: "asyncio.Task[HeldToken | None]") -> None:
        self._token_loads.pop(digest, None)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _tell_fault("a token was not loaded", fault)

    # ── following ──

    async def _follow(self) -> None:
        # Jitter: many workers are started at one moment.
        await asyncio.sleep(random.uniform(0, self._spread))  # noqa: S311 -- spreads load, guards nothing
        while True:
            try:
                await self._follow_while_in_sync()
            except (NotInSync, RedisError, OSError) as fault:
                if not self._is_told_lost:
                    log.warning("out of sync with Redis", reason=_reason(fault), held=len(self.store.accounts))
                    self._is_told_lost = True
            except Exception:
                # The follower must not die: without it the worker would serve an ever older state.
                log.exception("the follower stumbled")
            self._in_sync_until = 0.0
            self._has_asked.set()
            # Jitter: many workers lose Redis at one moment and must not come back in one.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads load, guards nothing
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow_while_in_sync(self) -> None:
        await self._register()
        await self._synchronise()
        checked = asyncio.get_running_loop().time()
        while True:
            entries = await self._read_entries()
            for number, account, envelope in entries:
                if number != self.store.position + 1:
                    # What is missing was trimmed away, or never written: read anew whatever is held.
                    log.warning("a gap in the change stream", position=self.store.position, found=number)
                    self._begin(self.store.epoch or "", number)
                else:
                    if self.kept is not None:
                        self.kept.overtake(account)
                    self.store.pass_entry(number, account, envelope)
            if entries:
                self._advance()
            now = asyncio.get_running_loop().time()
            if not entries or now - checked > _CHECK_SECONDS:
                checked = now
                await self._synchronise()
            self._load_wanted()

    async def _synchronise(self) -> None:
        """Find out whether Redis is what it was; where it is another life or an older state, begin anew."""
        epoch = await self._read_epoch()
        if not epoch.is_complete:
            raise NotInSync("Redis is being filled anew")
        store = self.store
        if epoch.id != store.epoch:
            log.info("following", epoch=epoch.id, position=epoch.number, held=len(store.accounts))
            self._highest = 0
            self._begin(epoch.id, epoch.number)
        elif epoch.number < store.position:
            log.warning("Redis is behind", position=store.position, found=epoch.number)
            self._begin(epoch.id, epoch.number)
        elif not self._has_begun:
            # What was held in a file is not at the position at which the file was written, but at several around it.
            log.info("following", epoch=epoch.id, position=epoch.number, held=len(store.accounts))
            self._begin(epoch.id, epoch.number)
        self._advance()
        self._load_wanted()
        if epoch.number < self._highest:
            raise NotInSync("Redis has lost changes that were seen")
        self._touch()
        if self._is_told_lost:
            log.info("in sync with Redis again", position=store.position)
            self._is_told_lost = False

    def _begin(self, epoch: str, position: int) -> None:
        """Follow from here, and read anew what is held: each at a moment of its own, because many workers begin anew
        at the same time. What is asked for meanwhile is read at once.
        """
        store = self.store
        self._has_begun = True
        self._begun_at = position
        store.begin(epoch, position)
        wanted, store.wanted = store.wanted, set()
        if not store.catalog.version:
            store.wanted.add(CATALOG)
        for account in wanted - store.wanted:
            self._due.add(account)
            moment = random.uniform(0, self._spread)  # noqa: S311 -- spreads load, guards nothing
            asyncio.get_running_loop().call_later(moment, self._read_anew, account)

    def _read_anew(self, account: str) -> None:
        if account in self._due and not self._is_leaving:
            self.store.wanted.add(account)
            self._load_wanted()

    def _advance(self) -> None:
        self._highest = max(self._highest, self.store.position)
        self._applied_at = _now()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self._to_report.set()
        self._tell_news()

    def _touch(self) -> None:
        now = asyncio.get_running_loop().time()
        self._in_sync_until = now + _IN_SYNC_SECONDS
        self._has_asked.set()
        self.usable_until = now + self._staleness
        self._in_sync_at = _now()
        self._pause = _FIRST_PAUSE

    def _tell_news(self) -> None:
        for refusal in self.store.news:
            log.error("a document was refused", location=refusal.location, reason=refusal.reason)
        self.store.news.clear()

    async def _read_epoch(self) -> FollowedEpoch:
        found = await _answer(self._redis.hmget(self.keys.epoch, "id", "complete", "number"))
        return _epoch(found)

    async def _read_entries(self) -> list[tuple[int, str, bytes]]:
        found = await _answer(
            self._redis.xread({self.keys.changes: f"{self.store.position}-0"}, count=_ENTRIES_AT_ONCE, block=_BLOCK_MS)
        )
        entries = []
        for _, batch in found or ():
            for entry_id, fields in batch:
                number = int(entry_id.partition(b"-")[0])
                account = fields.get(b"account", b"").decode("utf-8", "replace")
                entries.append((number, account, fields.get(b"change", b"")))
        return entries

    # ── loading ──

    def _load_wanted(self) -> None:
        wanted, self.store.wanted = self.store.wanted, set()
        for account in wanted:
            if account in self._account_loads:
                self.store.wanted.add(account)
            else:
                self._begin_account_load(account)

    def _begin_account_load(self, account: str) -> "asyncio.Task[None]":
        self._due.discard(account)
        coroutine = self._load_catalog() if account == CATALOG else self._load_account(account)
        load = self._account_loads[account] = asyncio.create_task(coroutine)
        load.add_done_callback(lambda task: self._end_account_load(account, task))
        return load

    def _end_account_load(self, account: str, task: "asyncio.Task[None]") -> None:
        self._account_loads.pop(account, None)
        self._to_report.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            _tell_fault("an account was not loaded", fault)
            # Redis's trouble passes; a refusal stands until something is written anew.
            if not isinstance(fault, DocumentNotTaken) and (account == CATALOG or account in self.store.accounts):
                self.store.wanted.add(account)
        self._tell_news()

    async def _load_token(self, digest: str) -> HeldToken | None:
        name = token_document(digest)
        location = self.keys.token(digest)
        for _ in range(_LOAD_TRIES):
            loading = self.store.begin_loading()
            try:
                found = await self._read_together(loading, ("GET", location))
                if found is None:
                    if any(name in change.documents or change.is_partial for change in loading.changes):
                        continue
                    if self.kept is not None:
                        self.kept.take_token(digest)
                    self.store.remember_unknown(digest)
                    return None
                read = self._read("", name, found)  # a token stands at its digest, whoever its account is
                if not isinstance(read.document, TokenDocument):
                    raise self._refused("", name, "not a token that this release understands")
                account = read.document.account
                await self._await_account(account)
                if any(change.is_partial for change in loading.changes_of(account)):
                    continue
                self._check_generation(loading)
                self._fence(digest, read)
                self.store.install_tokens(loading, account, {digest: read})
                return self.store.tokens.get(digest)
            finally:
                self.store.end_loading(loading)
        raise NotInSync("changes came faster than a token could be read")

    async def _await_account(self, account: str) -> None:
        """Until an account is held, and none of its loads is under way or due."""
        load = self._account_loads.get(account)
        if load is None and (account not in self.store.accounts or account in self._due):
            load = self._begin_account_load(account)
        if load is not None:
            await asyncio.shield(load)

    async def _load_account(self, account: str) -> None:
        await self._restore(account)
        async with self._accounts_at_once:
            for _ in range(_LOAD_TRIES):
                loading = self.store.begin_loading()
                try:
                    fields = await self._read_together(loading, ("HGETALL", self.keys.account(account)))
                    contents = await self._contents(account, fields)
                    held = self.store.accounts.get(account)
                    tokens, refused = (
                        await self._read_tokens(loading, account, list(held.tokens))
                        if held is not None
                        else ({}, set())
                    )
                    self._check_generation(loading)
                    if not self.store.install_account(loading, account, contents):
                        continue
                    if not self.store.accounts[account].is_stale:
                        self.store.install_tokens(loading, account, tokens, refused)
                    return
                finally:
                    self.store.end_loading(loading)
        raise NotInSync("changes came faster than an account could be read")

    async def _contents(self, account: str, fields: dict[bytes, bytes]) -> Contents:
        envelope = fields.pop(VERSION_DOCUMENT.encode(), None)
        if envelope is None:
            raise self._refused(account, VERSION_DOCUMENT, "missing")
        version = self._read(account, VERSION_DOCUMENT, envelope).version
        names = [(name.decode("utf-8", "surrogateescape"), field) for name, field in fields.items()]
        return await self._verified(account, version, names)

    async def _verified(self, account: str, version: int, envelopes: list[tuple[str, bytes]]) -> Contents:
        documents: dict[str, Versioned] = {}
        refused: set[str] = set()
        for start in range(0, len(envelopes), _DOCUMENTS_AT_ONCE):
            part, refusals = self.store.reader.contents(account, version, envelopes[start : start + _DOCUMENTS_AT_ONCE])
            documents |= part.documents
            refused |= part.refused
            for refusal in refusals:
                self.store.refuse(refusal)
            await asyncio.sleep(0)
        return Contents(version, documents, frozenset(refused))

    async def _read_tokens(
        self, loading: Loading, account: str, digests: list[str]
    ) -> tuple[dict[str, Versioned | None], set[str]]:
        tokens: dict[str, Versioned | None] = {}
        refused: set[str] = set()
        for start in range(0, len(digests), _TOKENS_AT_ONCE):
            part = digests[start : start + _TOKENS_AT_ONCE]
            found = await self._read_together(loading, ("MGET", *map(self.keys.token, part)))
            for digest, envelope in zip(part, found, strict=True):
                if envelope is None:
                    tokens[digest] = None
                    continue
                try:
                    tokens[digest] = self._read(account, token_document(digest), envelope)
                except DocumentNotTaken:
                    refused.add(digest)
            await asyncio.sleep(0)
        return tokens, refused

    async def _load_catalog(self) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(self.keys.catalog, CATALOG_DOCUMENTS)
            pipeline.hget(self.keys.epoch, "number")
            found, number = await pipeline.execute()
        if found[0] is None:
            log.warning("there is no catalog in Redis yet")
        self.store.install_catalog(
            {
                name: self._read(CATALOG, name, envelope)
                for name, envelope in zip(CATALOG_DOCUMENTS, found, strict=True)
                if envelope is not None
            },
            position=int(number or 0),
        )

    async def _read_together(self, loading: Loading, command: tuple[str, ...]) -> Any:
        """What one command reads, once the store has passed the position at which it was read."""
        async with self._reads_at_once, self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(self.keys.epoch, "id", "complete", "number")
            pipeline.execute_command(*command)
            found, answer = await asyncio.wait_for(pipeline.execute(), _REDIS_TIMEOUT * 2)
        epoch = _epoch(found)
        if not epoch.is_complete or epoch.id != loading.epoch or epoch.number < loading.position:
            raise NotInSync("Redis changed its state while it was read")
        async with asyncio.timeout(_WAIT_FOR_POSITION):
            while self.store.position < epoch.number:
                await self._moved.wait()
        return answer

    def _check_generation(self, loading: Loading) -> None:
        if not self.store.is_continued(loading):
            raise NotInSync("Redis began anew while it was read")

    def _read(self, account: str, name: str, envelope: bytes) -> Versioned:
        try:
            return self.store.reader.document(account, name, envelope)
        except DocumentNotTaken as refusal:
            self.store.refuse(refusal)
            self._tell_news()
            raise

    def _refused(self, account: str, name: str, reason: str) -> DocumentNotTaken:
        self.store.refuse_document(account, name, reason)
        self._tell_news()
        return DocumentNotTaken(self.keys.location(account, name).strip().replace("\n", " "), reason)

    # ── what a file held ──

    def _begin_with(self, kept: Kept) -> None:
        store, head = self.store, kept.head
        store.epoch, store.position, self._highest = head.epoch or None, head.position, head.position
        self._in_sync_at = head.in_sync.wall
        self.usable_until = self._kept_until = asyncio.get_running_loop().time() + self._staleness - kept.age
        catalog: dict[str, Versioned] = {}
        for name, _, envelope in kept.catalog:
            with suppress(DocumentNotTaken):
                if envelope is not None:
                    catalog[name] = self._read(CATALOG, name, envelope)
        store.install_catalog(catalog)
        log.info(
            "beginning with what a file held",
            age_seconds=round(kept.age, 3),
            position=head.position,
            accounts=len(kept.accounts),
            tokens=len(kept.account_of),
        )

    async def _find_kept(self, digest: str) -> HeldToken | None:
        # Not before Redis was asked: what was deleted since must not come back for a moment.
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_SYNC):
                await self._has_asked.wait()
        kept = self.kept
        if kept is None or (account := kept.account_of.get(digest)) is None or kept.accounts[account].is_overtaken:
            return self.store.tokens.get(digest)
        await self._restore(account)
        if not self.is_in_sync and asyncio.get_running_loop().time() < self._kept_until:
            self._restore_token(kept, digest)
        return self.store.tokens.get(digest)

    async def _restore(self, account: str) -> None:
        """Put in an account as the file had it: the last known good, until Redis has a newer one. Its tokens follow
        when they are shown.
        """
        if self.kept is None:
            return
        async with self._restoring:
            found = self.kept.accounts.get(account) if self.kept is not None else None
            if found is None or account in self.store.accounts:
                return
            envelopes = [(name, envelope) for name, _, envelope in found.documents if envelope is not None]
            contents = await self._verified(account, found.version, envelopes)
            gone = {name: Versioned(version, None) for name, version, envelope in found.documents if envelope is None}
            unfit = contents.refused | (found.unfit - set(contents.documents))
            self.store.restore_account(account, Contents(found.version, contents.documents | gone, unfit))

    def _restore_token(self, kept: Kept, digest: str) -> None:
        account = kept.account_of.get(digest)
        document = kept.take_token(digest)
        if account not in self.store.accounts or document is None:
            return
        if document.envelope is None:
            self.store.restore_token(account, digest, Versioned(document.version, None))
            return
        with suppress(DocumentNotTaken):
            self.store.restore_token(account, digest, self._read(account, document.name, document.envelope))

    def _fence(self, digest: str, read: Versioned | None) -> None:
        """Before Redis's copy of a token is taken in: the file's goes, unless it is the newer one."""
        kept = self.kept
        if kept is None or (held := kept.token(digest)) is None:
            return
        if read is None or read.version < held.version:
            self._restore_token(kept, digest)
        else:
            kept.take_token(digest)

    async def _read_kept_anew(self, kept: Kept) -> None:
        """Once Redis is there, bring what the file held up to date, account by account and not in a rush."""
        await self._has_asked.wait()
        accounts = list(kept.accounts)
        random.shuffle(accounts)
        pause = 2 * self._spread / max(len(accounts), 1)
        while accounts:
            if not self.is_in_sync:
                await self._moved.wait()
                continue
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 -- spreads load, guards nothing
            try:
                await self._read_account_anew(kept, accounts[-1])
            except (NotInSync, RedisError, OSError) as fault:
                log.warning("what a file held was not read anew yet", reason=_reason(fault), accounts=len(accounts))
                await asyncio.sleep(_LONGEST_PAUSE)
            else:
                accounts.pop()
        self.kept = None

    async def _read_account_anew(self, kept: Kept, account: str) -> None:
        if account in kept.accounts or account in self.store.accounts:
            # A refusal leaves what the file had, as it would leave what was held; the tokens are read all the same.
            with suppress(DocumentNotTaken):
                await self._await_account(account)
        while (found := kept.accounts.get(account)) is not None and account in self.store.accounts:
            digests = list(islice(found.tokens, _TOKENS_AT_ONCE))
            if not digests:
                break
            loading = self.store.begin_loading()
            try:
                tokens, refused = await self._read_tokens(loading, account, digests)
                self._check_generation(loading)
                for digest in digests:
                    self._fence(digest, tokens.get(digest))
                self.store.install_tokens(loading, account, tokens, refused)
            finally:
                self.store.end_loading(loading)
        kept.forget(account)

    # ── telling of itself ──

    async def _register(self) -> None:
        """Enter the count before anything is judged: who waits for all workers must know of this one."""
        try:
            await self._send_report()
        except ResponseError as fault:
            # Redis answers and takes no writes: it takes no publications either, and what it holds can be served.
            log.warning("Redis does not take this worker's report", reason=_reason(fault))

    async def _report(self) -> None:
        while True:
            self._to_report.clear()
            try:
                await self._send_report()
            except (RedisError, OSError):
                await asyncio.sleep(_CHECK_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._to_report.wait(), _CHECK_SECONDS)

    async def _send_report(self) -> None:
        async with self._sending:
            if self._is_leaving:
                return
            # Of two reports the later one has the higher version, whatever the clock does.
            self._reported_at = max(self._reported_at + 1, _now())
            envelope = seal_report(self.keys, self._document_keys, self.report(self._reported_at))
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(self.keys.workers, self.id, envelope)
                self._wake(pipeline)
                await pipeline.execute()

    def _wake(self, pipeline: Any) -> None:
        pipeline.xadd(self.keys.acknowledged, {"worker": self.id}, maxlen=1, approximate=False)

    def _not_read_anew(self) -> dict[str, tuple[int, int]]:
        """What a file held serves, should Redis go away now: what was published before is not in force in it."""
        accounts = self.kept.accounts.items() if self.kept is not None else ()
        return {account: (0, self._begun_at) for account, held in accounts if not held.is_overtaken}

    def report(self, now: int) -> WorkerReport:
        """What this worker tells of itself."""
        store = self.store
        return WorkerReport(
            id=self.id,
            host=self._host,
            process=os.getpid(),
            release=RELEASE,
            started_at=self._started_at,
            heartbeat_at=now,
            staleness=self._staleness,
            in_sync_at=self._in_sync_at,
            epoch=store.epoch,
            position=store.position,
            applied_at=self._applied_at,
            behind=behind_of(self._not_read_anew() | store.behind),
            is_in_sync=self.is_in_sync,
            accounts=len(store.accounts),
            requests=self.requests,
            refusals=store.refusals,
            last_refusals=tuple(store.last_refusals),
        )


def redis_client(url: str) -> Redis:
    """A client that gives up soon and tries nothing twice: whoever uses it knows better what to do then."""
    return Redis.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


async def _answer(command: Any) -> Any:
    """redis-py types its commands for both of its worlds; ours is the awaitable one."""
    return await cast("Awaitable[Any]", command)


def _epoch(found: Iterable[bytes | None]) -> FollowedEpoch:
    epoch_id, complete, number = found
    if not epoch_id:
        raise NotInSync("Redis is empty")
    try:
        return FollowedEpoch(epoch_id.decode("ascii"), complete == b"1", int(number or b"0"))
    except ValueError:
        raise NotInSync("Redis holds no epoch that can be read") from None


def _now() -> int:
    return time.time_ns() // 1000


def _reason(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}"


def _tell_fault(what: str, fault: BaseException) -> None:
    if isinstance(fault, NotInSync | RedisError | OSError):
        log.warning(what, reason=_reason(fault))
    elif not isinstance(fault, DocumentNotTaken):
        log.error(what, exc_info=fault)
