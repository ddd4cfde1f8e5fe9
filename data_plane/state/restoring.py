"""What a snapshot file held when this worker started: it serves while Redis cannot be asked, and is then read again.

A file never undoes what Redis has said. Before anything of it serves, Redis is asked once; an account that Redis
reports a change of serves no longer from the file; a token of the file gives way to a newer one.

Source: docs/decisions/0054-snapshot-files.md.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Final

import structlog
from redis.exceptions import RedisError

from data_plane.state.documents import DocumentNotTaken, Versioned
from data_plane.state.held import HeldToken
from data_plane.state.reading import TOKENS_AT_ONCE, SnapshotReader, reason_of
from data_plane.state.snapshot_file import FileContents
from data_plane.state.store import WorkerState
from data_plane.state.sync import NotInSync, Sync
from gateway_core.snapshot import CATALOG

log = structlog.get_logger("data_plane.state.restoring")

_PAUSE_AFTER_A_FAULT: Final = 1.0


class FileRestorer:
    """Puts documents of a file into the store where Redis has said nothing newer."""

    def __init__(self, contents: FileContents | None, store: WorkerState, reader: SnapshotReader, sync: Sync) -> None:
        """
        Args:
            contents: what the file held; None where there is no file.
            store: what is restored into.
            reader: what verifies, and reads again.
            sync: when Redis was last in sync.
        """
        # None once all of it was read again from Redis, too.
        self.contents = contents
        self._store = store
        self._reader = reader
        self._sync = sync
        self._serves_until = 0.0
        self._restoring = asyncio.Lock()

    def start(self) -> None:
        """Take the file's position, age and catalog."""
        if self.contents is None:
            return
        found, store = self.contents, self._store
        store.epoch, store.position = found.head.epoch or None, found.head.position
        self._sync.restore(in_sync_at=found.head.in_sync.wall, age=found.age)
        self._serves_until = self._sync.usable_until
        catalog: dict[str, Versioned] = {}
        for name, _, envelope in found.catalog:
            with suppress(DocumentNotTaken):
                if envelope is not None:
                    catalog[name] = self._reader.verify(CATALOG, name, envelope)
        store.install_catalog(catalog)
        log.info(
            "beginning with what a file held",
            age_seconds=round(found.age, 3),
            position=found.head.position,
            accounts=len(found.accounts),
            tokens=len(found.account_of),
        )

    # ── while Redis is away ──

    async def find_token(self, digest: str) -> HeldToken | None:
        """A token of the file, restored with its account; None where the file may not answer for it."""
        # Not before Redis was asked: a token that was deleted since must not come back for a moment.
        await self._sync.wait_until_asked()
        found = self.contents
        if found is None or (account := found.account_of.get(digest)) is None or found.accounts[account].is_overtaken:
            return self._store.tokens.get(digest)
        await self.restore_account(account)
        if not self._sync.is_in_sync and asyncio.get_running_loop().time() < self._serves_until:
            self._restore_token(found, digest)
        return self._store.tokens.get(digest)

    async def restore_account(self, account: str) -> None:
        """Put in an account as the file had it, unless the store holds it. Its tokens follow when they are shown."""
        if self.contents is None:
            return
        async with self._restoring:
            found = self.contents.accounts.get(account) if self.contents is not None else None
            if found is None or account in self._store.accounts:
                return
            envelopes = [(name, envelope) for name, _, envelope in found.documents if envelope is not None]
            contents = await self._reader.verify_all(account, found.version, envelopes)
            gone = {name: Versioned(version, None) for name, version, envelope in found.documents if envelope is None}
            unfit = contents.refused | (found.unfit - set(contents.documents))
            whole = contents._replace(version=found.version, documents=contents.documents | gone, refused=unfit)
            self._store.restore_account(account, whole)

    def _restore_token(self, found: FileContents, digest: str) -> None:
        account = found.account_of.get(digest)
        document = found.take_token(digest)
        if account not in self._store.accounts or document is None:
            return
        if document.envelope is None:
            self._store.restore_token(account, digest, Versioned(document.version, None))
            return
        with suppress(DocumentNotTaken):
            read = self._reader.verify(account, document.name, document.envelope)
            self._store.restore_token(account, digest, read)

    # ── what Redis says meanwhile ──

    def overtake(self, account: str) -> None:
        """Redis reported a change of this account: the file does not serve it any more."""
        if self.contents is not None:
            self.contents.overtake(account)

    def forget_token(self, digest: str) -> None:
        """Redis has no such token."""
        if self.contents is not None:
            self.contents.take_token(digest)

    def keep_newer(self, digest: str, read: Versioned | None) -> None:
        """Compare a token of the file with Redis's, before that is taken in: the newer one goes into the store."""
        found = self.contents
        if found is None or (held := found.token(digest)) is None:
            return
        if read is None or read.version < held.version:
            self._restore_token(found, digest)
        else:
            found.take_token(digest)

    def behind(self, position: int) -> dict[str, tuple[int, int]]:
        """Accounts that the file would serve if Redis went away now: publications up to this position are not in it.

        Args:
            position: where the change stream stood when this worker started to follow it.
        """
        accounts = self.contents.accounts.items() if self.contents is not None else ()
        return {account: (0, position) for account, held in accounts if not held.is_overtaken}

    # ── reading it again ──

    async def read_again(self, await_account: Callable[[str], Awaitable[None]], spread: float) -> None:
        """Once Redis is there, read again what the file held, account by account.

        Args:
            await_account: waits until an account is held and up to date.
            spread: seconds; the accounts are spread over twice as many.
        """
        found = self.contents
        if found is None:
            return
        await self._sync.has_asked.wait()
        accounts = list(found.accounts)
        random.shuffle(accounts)
        pause = 2 * spread / max(len(accounts), 1)
        while accounts:
            if not self._sync.is_in_sync:
                await self._sync.moved.wait()
                continue
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 -- spreads load, guards nothing
            try:
                await self._read_account_again(found, accounts[-1], await_account)
            except (NotInSync, RedisError, OSError) as fault:
                log.warning("what a file held was not read again yet", reason=reason_of(fault), accounts=len(accounts))
                await asyncio.sleep(_PAUSE_AFTER_A_FAULT)
            else:
                accounts.pop()
        self.contents = None

    async def _read_account_again(
        self, found: FileContents, account: str, await_account: Callable[[str], Awaitable[None]]
    ) -> None:
        if account in found.accounts or account in self._store.accounts:
            # A refusal leaves what the file had, as it would leave what was held; the tokens are read all the same.
            with suppress(DocumentNotTaken):
                await await_account(account)
        while (held := found.accounts.get(account)) is not None and account in self._store.accounts:
            digests = list(islice(held.tokens, TOKENS_AT_ONCE))
            if not digests:
                break
            loading = self._store.start_loading()
            try:
                tokens, refused = await self._reader.read_tokens(loading, account, digests)
                self._reader.check_is_continued(loading)
                for digest in digests:
                    self.keep_newer(digest, tokens.get(digest))
                self._store.install_tokens(loading, account, tokens, refused)
            finally:
                self._store.end_loading(loading)
        found.forget(account)
