"""Loads what is not held, or has to be read again: tokens when they are first shown, accounts, the catalog.

Loads run in tasks of their own. A request that is cut off while it waits for one cancels nothing, and all requests
that wait for the same thing share one load.

Source: docs/decisions/0050-worker-store.md.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from data_plane.errors import SnapshotUnavailable, SnapshotUnfit
from data_plane.state.documents import DocumentNotTaken
from data_plane.state.held import HeldToken
from data_plane.state.reading import SnapshotReader, log_load_fault
from data_plane.state.restoring import FileRestorer
from data_plane.state.store import WorkerState
from data_plane.state.sync import NotInSync
from data_plane.tasks import end
from gateway_core.snapshot import CATALOG, TokenDocument, token_document

_WAIT_FOR_LOAD: Final = 5.0
_ACCOUNTS_AT_ONCE: Final = 4
_LOADS_WAITING: Final = 2_000
_LOAD_TRIES: Final = 3


class Loader:
    """Puts into the store what was read."""

    def __init__(
        self,
        store: WorkerState,
        reader: SnapshotReader,
        restorer: FileRestorer,
        *,
        spread: float,
        report_soon: Callable[[], None],
    ) -> None:
        """
        Args:
            store: what is loaded into.
            reader: what reads.
            restorer: what a file held; it is put in before an account is read from Redis.
            spread: seconds over which scheduled loads are spread.
            report_soon: called when an account's load has ended.
        """
        self.spread = spread
        self._store = store
        self._reader = reader
        self._restorer = restorer
        self._report_soon = report_soon
        self._accounts_at_once = asyncio.Semaphore(_ACCOUNTS_AT_ONCE)
        self._token_loads: dict[str, asyncio.Task[HeldToken | None]] = {}
        self.account_loads: dict[str, asyncio.Task[None]] = {}
        # Accounts that are held and wait for their scheduled moment.
        self._scheduled: set[str] = set()
        self._is_closed = False

    async def close(self) -> None:
        """End all loads."""
        self._is_closed = True
        await end([*self._token_loads.values(), *self.account_loads.values()])

    # ── tokens ──

    async def find_token(self, digest: str) -> HeldToken | None:
        """A token that is not held, loaded with its account; None where there is none. Call it while in sync.

        Raises:
            SnapshotUnavailable: it cannot be judged now.
            SnapshotUnfit: its document in Redis does not verify.
        """
        if self._store.is_unknown(digest):
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

    async def _load_token(self, digest: str) -> HeldToken | None:
        name = token_document(digest)
        for _ in range(_LOAD_TRIES):
            loading = self._store.start_loading()
            try:
                read = await self._reader.read_token(loading, digest)
                if read is None:
                    if any(name in change.documents or change.is_partial for change in loading.changes):
                        continue
                    self._restorer.forget_token(digest)
                    self._store.remember_unknown(digest)
                    return None
                if not isinstance(read.document, TokenDocument):
                    raise self._reader.refuse("", name, "not a token that this release understands")
                account = read.document.account
                await self.await_account(account)
                if any(change.is_partial for change in loading.changes_of(account)):
                    continue
                self._reader.check_is_continued(loading)
                self._restorer.keep_newer(digest, read)
                self._store.install_tokens(loading, account, {digest: read})
                return self._store.tokens.get(digest)
            finally:
                self._store.end_loading(loading)
        raise NotInSync("changes came faster than a token could be read")

    def _end_token_load(self, digest: str, task: "asyncio.Task[HeldToken | None]") -> None:
        self._token_loads.pop(digest, None)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log_load_fault("a token was not loaded", fault)

    # ── accounts and the catalog ──

    def load_wanted(self) -> None:
        """Start to read what the store wants, but for accounts that are being read already."""
        for account in self._store.take_wanted():
            if account in self.account_loads:
                self._store.wanted.add(account)
            else:
                self._start_account_load(account)

    def schedule(self, accounts: Iterable[str]) -> None:
        """Read these accounts again, each at a moment of its own within the spread: many workers lose Redis at once.

        An account that a request needs meanwhile is read at once.
        """
        for account in accounts:
            self._scheduled.add(account)
            moment = random.uniform(0, self.spread)  # noqa: S311 -- spreads load, guards nothing
            asyncio.get_running_loop().call_later(moment, self._load_scheduled, account)

    def _load_scheduled(self, account: str) -> None:
        if account in self._scheduled and not self._is_closed:
            self._store.wanted.add(account)
            self.load_wanted()

    async def await_account(self, account: str) -> None:
        """Wait until an account is held and no load of it is under way or scheduled.

        Raises:
            NotInSync, RedisError, OSError, DocumentNotTaken: why it could not be read.
        """
        load = self.account_loads.get(account)
        if load is None and (account not in self._store.accounts or account in self._scheduled):
            load = self._start_account_load(account)
        if load is not None:
            await asyncio.shield(load)

    def _start_account_load(self, account: str) -> "asyncio.Task[None]":
        self._scheduled.discard(account)
        coroutine = self._load_catalog() if account == CATALOG else self._load_account(account)
        load = self.account_loads[account] = asyncio.create_task(coroutine)
        load.add_done_callback(lambda task: self._end_account_load(account, task))
        return load

    def _end_account_load(self, account: str, task: "asyncio.Task[None]") -> None:
        self.account_loads.pop(account, None)
        self._report_soon()
        if not task.cancelled() and (fault := task.exception()) is not None:
            log_load_fault("an account was not loaded", fault)
            # Redis's trouble passes. A refusal stands until the document is written again.
            if not isinstance(fault, DocumentNotTaken) and (account == CATALOG or account in self._store.accounts):
                self._store.wanted.add(account)
        self._reader.log_refusals()

    async def _load_catalog(self) -> None:
        documents, position = await self._reader.read_catalog()
        self._store.install_catalog(documents, position=position)

    async def _load_account(self, account: str) -> None:
        await self._restorer.restore_account(account)
        async with self._accounts_at_once:
            for _ in range(_LOAD_TRIES):
                loading = self._store.start_loading()
                try:
                    contents = await self._reader.read_account(loading, account)
                    held = self._store.accounts.get(account)
                    digests = [] if held is None else list(held.tokens)
                    tokens, refused = await self._reader.read_tokens(loading, account, digests)
                    self._reader.check_is_continued(loading)
                    if not self._store.install_account(loading, account, contents):
                        continue
                    if not self._store.accounts[account].is_stale:
                        self._store.install_tokens(loading, account, tokens, refused)
                    return
                finally:
                    self._store.end_loading(loading)
        raise NotInSync("changes came faster than an account could be read")
