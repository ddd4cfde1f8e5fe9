"""What a worker holds in memory: tokens, accounts and the catalog, at one position of the change stream. No I/O.

Each change is applied in one synchronous step, so that a request sees one state or the next and nothing between. A
document that does not verify, is malformed or is older than what is held is refused and remembered as a refusal; the
last good one goes on serving. Two things are fenced by version and never go back while they are held: an account with
each of its documents, and a token.

An account is in one of these states:

    state    meaning                                             next
    absent   not held                                            loaded (install_account), restored (restore_account)
    current  all that was published is in force                  stale, behind
    behind   current, but for documents that were refused        current (a good one comes), stale
    stale    serves, takes no changes, waits to be read again    current, behind (install_account)

`start_at` makes every account stale, as does a change that does not carry its documents (`is_partial`) or one that is
refused whole. `restored` accounts, from a snapshot file, are stale from the start. `behind` counts behind and stale
accounts: those with publications that were passed and are not in force.

A token is in one of these states:

    state           meaning                                           next
    absent          nothing is known of it                            live, deleted, unknown
    unknown         Redis has no such token (remembered, bounded)     absent (any change that names it, any new start)
    live            held with its account                             deleted, not understood
    deleted         a tombstone: an older document cannot come back   live (a newer document)
    not understood  newer than this release: answered with 503        live, deleted

Source: architecture, decisions 7 and 8; docs/decisions/0050-worker-store.md.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Final

from data_plane.state.documents import (
    Contents,
    DocumentNotTaken,
    DocumentReader,
    StreamChange,
    Versioned,
    not_understood,
    shown,
)
from data_plane.state.held import HeldAccount, HeldToken
from data_plane.state.held_catalog import HeldCatalog
from gateway_core.catalog import Catalog
from gateway_core.sealing import Keyring
from gateway_core.snapshot import CATALOG, MODELS_DOCUMENT, VERSION_DOCUMENT, token_document
from gateway_core.worker_reports import Refusal

_UNKNOWN_TOKENS: Final = 20_000
_TOMBSTONES: Final = 20_000
_REMEMBERED_REFUSALS: Final = 8
_TOKEN: Final = token_document("")
_MICROSECONDS: Final = 1_000_000


class Loading:
    """A read of Redis under way, with the changes that the follower passes meanwhile."""

    __slots__ = ("changes", "epoch", "position", "starts")

    def __init__(self, epoch: str | None, position: int, starts: int) -> None:
        self.epoch = epoch
        self.position = position
        self.starts = starts
        self.changes: list[StreamChange] = []

    def changes_of(self, account: str) -> list[StreamChange]:
        """The changes of one account that passed since this read began."""
        return [change for change in self.changes if change.account == account]


class WorkerState:
    """Everything held, at one position of the change stream."""

    def __init__(self, reader: DocumentReader) -> None:
        self.reader = reader
        self.epoch: str | None = None
        self.position = 0
        # How often the follower started again. Each time it skipped the changes up to its new beginning.
        self._starts = 0
        self.tokens: dict[str, HeldToken] = {}
        self.accounts: dict[str, HeldAccount] = {}
        self._held_catalog = HeldCatalog()
        self.refusals = 0
        self.last_refusals: deque[Refusal] = deque(maxlen=_REMEMBERED_REFUSALS)
        self.news: list[DocumentNotTaken] = []
        # Accounts (and `catalog`) that have to be read again.
        self.wanted: set[str] = set()
        # Held accounts with publications that were passed and are not in force, each with its first and last number.
        self.behind: dict[str, tuple[int, int]] = {}
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._tombstones: deque[str] = deque()
        self._loadings: list[Loading] = []

    # ── refusals ──

    def refuse(self, refusal: DocumentNotTaken) -> None:
        """Remember a refusal for the worker's report; `news` is for its log."""
        self.refusals += 1
        self.last_refusals.append(
            Refusal(location=refusal.location, reason=refusal.reason, refused_at=int(time.time() * _MICROSECONDS))
        )
        if len(self.news) < _REMEMBERED_REFUSALS:
            self.news.append(refusal)

    def refuse_document(self, account: str, name: str, reason: str) -> None:
        """Remember a refusal by the document's name."""
        self.refuse(DocumentNotTaken(shown(self.reader.keys.location(account, name)), reason))

    # ── the change stream ──

    def start_at(self, epoch: str, position: int) -> None:
        """Follow from here. Everything that is held becomes stale: it serves, and has to be read again."""
        self.epoch = epoch
        self.position = position
        self._starts += 1
        self._unknown.clear()
        for account in self.accounts.values():
            account.is_stale = True
            self.behind[account.id] = (0, position)
        self.wanted.update(self.accounts, (CATALOG,))

    def take_wanted(self) -> set[str]:
        """The accounts (and `catalog`) that have to be read again; from now on they count as being read."""
        wanted, self.wanted = self.wanted, set()
        return wanted

    def pass_entry(self, number: int, account: str, envelope: bytes) -> None:
        """Go to the next position: apply one entry of the change stream, whole or not at all."""
        self.position = number
        is_held = account in self.accounts or account == CATALOG
        if not is_held and not self._loadings and not self._unknown:
            return
        try:
            change = self.reader.change(account, envelope)
        except DocumentNotTaken as refusal:
            self.refuse(refusal)
            self._unknown.clear()
            for loading in self._loadings:
                loading.changes.append(StreamChange(account, 0, {}, is_partial=True))
            if is_held:
                self._want(account)
                self._fall_behind(account)
            return
        for loading in self._loadings:
            loading.changes.append(change)
        self._apply(change)

    def _apply(self, change: StreamChange) -> None:
        if change.account == CATALOG:
            self._apply_catalog(change)
            return
        account = self.accounts.get(change.account)
        if change.is_partial:
            self._unknown.clear()
        if account is not None and not change.is_partial and change.version <= account.snapshot.version:
            self.refuse(DocumentNotTaken(shown(self.reader.keys.change(change.account)), "an older change put back"))
            return
        for name, read in change.documents.items():
            if name.startswith(_TOKEN):
                self._put_token(account, name.removeprefix(_TOKEN), read)
        if account is None:
            return
        if change.is_partial or account.is_stale:
            self._want(change.account)
            self._fall_behind(change.account)
            return
        older = [
            name for name, read in change.documents.items()
            if (held := account.documents.get(name)) is not None and read.version < held.version
        ]  # fmt: skip
        for name in older:
            self.refuse_document(change.account, name, "older than what is held")
        account.take(change.version, _of_account(change.documents, but=older))
        account.refused |= frozenset(older)
        self._report_not_understood(change.account, change.documents)
        if not account.refused.isdisjoint(change.documents):
            self._fall_behind(change.account)
        self._catch_up(account)

    def _fall_behind(self, account: str) -> None:
        """The entry that is being passed is not in force."""
        if account in self.accounts:
            first, _ = self.behind.get(account, (self.position, 0))
            self.behind[account] = (first, self.position)

    def _catch_up(self, account: HeldAccount) -> None:
        if account.is_whole:
            self.behind.pop(account.id, None)

    def _report_not_understood(self, account: str, documents: Mapping[str, Versioned]) -> None:
        for name in not_understood(documents):
            self.refuse_document(account, name, "has fields that this release does not understand")

    def _apply_catalog(self, change: StreamChange) -> None:
        if change.is_partial or MODELS_DOCUMENT not in change.documents:
            self.wanted.add(CATALOG)
        elif change.version > self.catalog.version:
            self.install_catalog(change.documents)
        elif self.position > self._held_catalog.position:
            self.refuse(DocumentNotTaken(shown(self.reader.keys.change(CATALOG)), "an older change put back"))

    def _want(self, account: str) -> None:
        if held := self.accounts.get(account):
            held.is_stale = True
        self.wanted.add(account)

    def _put_token(self, account: HeldAccount | None, digest: str, read: Versioned) -> None:
        self._unknown.pop(digest, None)
        held, name = self.tokens.get(digest), token_document(digest)
        if held is not None and (read.version < held.version or held.account is not account):
            self.refuse_document(held.account.id, name, "older than what is held")
            held.account.refused |= {name}
            self._fall_behind(held.account.id)
            return
        # Who does not hold the account asks Redis when the token is first shown.
        if account is None or (held is None and read.document is None and read.is_understood):
            return
        if not read.is_understood:
            account.refused |= {name}
        elif name in account.refused:
            account.refused -= {name}
        self.tokens[digest] = HeldToken(account, read)
        account.tokens.add(digest)
        if read.document is None and read.is_understood:
            self._bury(digest)

    def _bury(self, digest: str) -> None:
        self._tombstones.append(digest)
        if len(self._tombstones) > _TOMBSTONES:
            oldest = self._tombstones.popleft()
            token = self.tokens.get(oldest)
            if token is not None and token.document is None and token.is_understood:
                del self.tokens[oldest]
                token.account.tokens.discard(oldest)

    # ── loading ──

    def start_loading(self) -> Loading:
        """Note the position before Redis is read. Every call needs an `end_loading`."""
        loading = Loading(self.epoch, self.position, self._starts)
        self._loadings.append(loading)
        return loading

    def is_continued(self, loading: Loading) -> bool:
        """Whether every change since this read began has been passed, and gathered for it."""
        return loading.starts == self._starts

    def end_loading(self, loading: Loading) -> None:
        """Gather no more changes for this read."""
        self._loadings.remove(loading)

    def install_account(self, loading: Loading, account: str, contents: Contents) -> bool:
        """Take in an account as it was read, and the changes since.

        The store must have passed the position at which Redis was read.

        Returns:
            False where a change passed that does not carry its documents: read again.
        """
        changes = [
            change for change in loading.changes_of(account) if change.version > contents.version or not change.version
        ]
        if any(change.is_partial for change in changes):
            return False
        held = self.accounts.get(account)
        if held is not None and contents.version < held.snapshot.version:
            self.refuse_document(account, VERSION_DOCUMENT, "older than what is held")
            return True
        documents: dict[str, Versioned] = {}
        unfit, refused = set(contents.refused), set(contents.refused)
        if held is not None:
            for name, last in held.documents.items():
                if name in contents.refused:
                    documents[name] = last
                    unfit.discard(name)
                elif name not in contents.documents:
                    documents[name] = Versioned(contents.version, None)
                elif contents.documents[name].version < last.version:
                    self.refuse_document(account, name, "older than what is held")
                    refused.add(name)
                    documents[name] = last
        for name, read in contents.documents.items():
            documents.setdefault(name, read)
        if held is None:
            held = self.accounts[account] = HeldAccount(account)
        held.become(contents.version, documents, frozenset(unfit), frozenset(refused), contents)
        self._report_not_understood(account, documents)
        for change in changes:
            if change.version > held.snapshot.version:
                held.take(change.version, _of_account(change.documents))
        return True

    def install_tokens(
        self,
        loading: Loading,
        account: str,
        tokens: Mapping[str, Versioned | None],
        refused: Iterable[str] = (),
    ) -> None:
        """Take in tokens of an account that is held, as they were read, and the changes since.

        Args:
            loading: the read, begun before Redis was asked.
            account: a held account.
            tokens: by digest; None where Redis has none.
            refused: digests of those that were read and not taken.
        """
        held = self.accounts[account]
        newer: dict[str, Versioned] = {}
        for change in loading.changes_of(account):
            for name, read in change.documents.items():
                # An older change that was put back comes last and must not win.
                if name.startswith(_TOKEN) and (name not in newer or read.version > newer[name].version):
                    newer[name] = read
        for digest, found in tokens.items():
            read = newer.get(token_document(digest)) or found or Versioned(held.snapshot.version, None)
            if found is not None and found.version > read.version:
                read = found
            known = self.tokens.get(digest)
            if known is None or known.version != read.version or (known.document is None) != (read.document is None):
                self._put_token(held, digest, read)
        held.refused |= frozenset(map(token_document, refused)) - newer.keys()
        if not held.is_whole:
            self.behind.setdefault(account, (0, self.position))
        self._catch_up(held)

    # ── the catalog ──

    @property
    def catalog(self) -> Catalog:
        """Models, prices and which providers have a managed key. Version 0 until one was read."""
        return self._held_catalog.catalog

    @property
    def catalog_documents(self) -> Mapping[str, Versioned]:
        """The catalog's documents by name."""
        return self._held_catalog.documents

    def install_catalog(self, documents: Mapping[str, Versioned], *, position: int = 0) -> None:
        """Take in the catalog's documents, as `HeldCatalog.install`."""
        self._held_catalog.install(documents, position=position, refuse=self.refuse_document)

    def managed_value(self, provider: str, keyring: Keyring) -> tuple[str | None, bool]:
        """The operator's own key for a provider, as `HeldCatalog.managed_value`."""
        return self._held_catalog.managed_value(provider, keyring)

    def managed_seal(self, provider: str) -> bytes | None:
        """The operator's own key for a provider as it is sealed: another one for another value."""
        return self._held_catalog.managed.get(provider)

    # ── what a snapshot file held ──

    def restore_account(self, account: str, contents: Contents) -> None:
        """Take in an account that an earlier worker kept in its file. It serves, and is read again later."""
        if account not in self.accounts:
            held = self.accounts[account] = HeldAccount(account)
            held.become(contents.version, contents.documents, contents.refused, contents=contents)
            held.is_stale = True
            self.behind[account] = (0, self.position)

    def restore_token(self, account: str, digest: str, read: Versioned) -> None:
        """Take in a token of a held account as a worker before this one held it, tombstones too."""
        if digest not in self.tokens:
            held = self.accounts[account]
            self.tokens[digest] = HeldToken(held, read)
            held.tokens.add(digest)
            if read.document is None and read.is_understood:
                self._bury(digest)

    def remember_unknown(self, digest: str) -> None:
        """No token has this digest; holds until a change names it."""
        self._unknown[digest] = None
        if len(self._unknown) > _UNKNOWN_TOKENS:
            self._unknown.popitem(last=False)

    def is_unknown(self, digest: str) -> bool:
        """Whether it is known that no token has this digest."""
        return digest in self._unknown


def _of_account(documents: Mapping[str, Versioned], *, but: Iterable[str] = ()) -> dict[str, Versioned]:
    left_out = set(but)
    return {name: read for name, read in documents.items() if not name.startswith(_TOKEN) and name not in left_out}
