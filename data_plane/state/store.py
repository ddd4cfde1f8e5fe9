"""What a worker holds in memory: tokens, accounts, the catalog. No I/O; its only writer is the change follower.

Everything comes in as an authenticated envelope and goes through `DocumentReader`. Each change is applied in one
synchronous step, so that a request sees one state or the next and nothing between. What does not verify, is
malformed or is older than what is held is refused and remembered as a refusal; the last good one goes on serving.

Two things are fenced by version and never go back while they are held: an account with each document of it, and a
token. What was deleted leaves a tombstone for that reason.

Source: architecture, decisions 7 and 8; docs/decisions/0050-worker-store.md.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from gateway_core import snapshot
from gateway_core.catalog import Catalog, ModelsDocument, Surface
from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.policy import Denial, Plan, SnapshotIncomplete, resolve
from gateway_core.sealing import Binding, Keyring, SealBroken, managed_binding
from gateway_core.snapshot import (
    CATALOG,
    MANAGED_DOCUMENT,
    MAX_DOCUMENT_BYTES,
    MODELS_DOCUMENT,
    VERSION_DOCUMENT,
    AccountSnapshot,
    ChangeDocument,
    DocumentNotUnderstood,
    DocumentRefused,
    Keys,
    ManagedKeysDocument,
    ProviderKeyDocument,
    TokenDocument,
    token_document,
)
from gateway_core.worker_reports import Refusal

CATALOG_DOCUMENTS: Final = (MODELS_DOCUMENT, MANAGED_DOCUMENT)

_UNKNOWN_TOKENS: Final = 20_000
_TOMBSTONES: Final = 20_000
_PLANS: Final = 2_000
_REMEMBERED_REFUSALS: Final = 8
_TOKEN: Final = token_document("")
_MICROSECONDS: Final = 1_000_000


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
        try:
            version, body = self._document_keys.verify(Purpose.DOCUMENT, location, envelope, limit=MAX_DOCUMENT_BYTES)
            document = _read_catalog(name, body) if account == CATALOG else snapshot.read(name, body)
            return Versioned(version, document, envelope=kept)
        except DocumentNotUnderstood:
            return Versioned(version, None, is_understood=False, envelope=kept)
        except (NotAuthentic, DocumentRefused) as fault:
            raise DocumentNotTaken(_shown(location), str(fault)) from None

    def change(self, account: str, envelope: bytes) -> StreamChange:
        """An entry of the change stream with every document in it. One that is refused refuses the whole entry.

        Raises:
            DocumentNotTaken: as `document`.
        """
        location = self.keys.change(account)
        try:
            version, body = self._document_keys.verify(Purpose.CHANGE, location, envelope)
            change = snapshot.decode(ChangeDocument, body)
        except (NotAuthentic, DocumentRefused) as fault:
            raise DocumentNotTaken(_shown(location), str(fault)) from None
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
            raise DocumentNotTaken(_shown(self.keys.location(account, name)), "newer than the version of its account")
        if isinstance(read.document, TokenDocument) and read.document.account != account:
            raise DocumentNotTaken(_shown(self.keys.location(account, name)), "a token of another account")


class HeldAccount:
    """An account as a worker holds it: its snapshot, and what was made of it for requests."""

    __slots__ = (
        "_opened",
        "_plans",
        "_plans_of",
        "documents",
        "id",
        "is_stale",
        "refused",
        "snapshot",
        "targets",
        "tokens",
        "unfit",
    )

    def __init__(self, account: str) -> None:
        self.id = account
        self.snapshot = AccountSnapshot(account)
        self.documents: dict[str, Versioned] = {}
        # Documents that were refused without a last good one: a denial from such a snapshot proves nothing.
        self.unfit: frozenset[str] = frozenset()
        # Documents and tokens of which Redis holds what was not taken, whether or not a last good one serves.
        self.refused: frozenset[str] = frozenset()
        # Waits to be loaded anew; until then it serves and takes no changes.
        self.is_stale = False
        # The digests of its tokens that are held, tombstones included.
        self.tokens: set[str] = set()
        # Where requests to its custom providers go (data_plane.forwarding.targets), by provider and surface.
        self.targets: dict[tuple[str, Surface], object] = {}
        self._opened: dict[str, tuple[ProviderKeyDocument, str | None]] = {}
        self._plans: dict[tuple[str | None, tuple[str, ...], Surface], Plan | Denial] = {}
        self._plans_of: Catalog | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all that was published of it is in force."""
        return not self.is_stale and not self.refused

    def take(self, version: int, documents: Mapping[str, Versioned]) -> None:
        """Go to a newer version by the documents that changed."""
        self.snapshot.apply(version, {name: read.document for name, read in documents.items()})
        self.documents.update(documents)
        gone = {name for name, read in documents.items() if read.is_understood}
        self.unfit = (self.unfit - gone) | _not_understood(documents)
        self.refused = (self.refused - gone) | _not_understood(documents)
        self._forget()

    def become(
        self,
        version: int,
        documents: dict[str, Versioned],
        unfit: frozenset[str],
        refused: frozenset[str] = frozenset(),
    ) -> None:
        """Go to a state that was loaded whole, but for what was refused; its tokens are another matter."""
        fresh = AccountSnapshot(self.id)
        fresh.apply(version, {name: read.document for name, read in documents.items() if read.document is not None})
        self.snapshot = fresh
        self.documents = documents
        self.unfit = unfit | _not_understood(documents)
        self.refused = refused | _not_understood(documents)
        self.is_stale = False
        self._forget()

    def _forget(self) -> None:
        self._plans.clear()
        self.targets.clear()
        held = self.snapshot.provider_keys
        self._opened = {key: opened for key, opened in self._opened.items() if held.get(key) is opened[0]}

    def resolve(
        self, catalog: Catalog, configuration: str | None, requested: tuple[str, ...], surface: Surface
    ) -> Plan | Denial:
        """The policy's answer, remembered for as long as snapshot and catalog stay as they are.

        Raises:
            SnapshotIncomplete: no decision can be made from what is held.
        """
        if self._plans_of is not catalog:
            self._plans.clear()
            self._plans_of = catalog
        asked = (configuration, requested, surface)
        outcome = self._plans.get(asked)
        if outcome is None:
            outcome = resolve(self.snapshot, catalog, configuration=configuration, requested=requested, surface=surface)
            if isinstance(outcome, Denial) and (self.unfit or catalog.version == 0):
                raise SnapshotIncomplete("a denial from a snapshot that is not whole")
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[asked] = outcome
        return outcome

    def value_of(self, provider_key: str, keyring: Keyring) -> tuple[str | None, bool]:
        """A provider key's value, opened once for a document; None where it does not open. And whether that is news."""
        document = self.snapshot.provider_keys[provider_key]
        known = self._opened.get(provider_key)
        if known is not None and known[0] is document:
            return known[1], False
        try:
            value: str | None = keyring.open(document.sealed, Binding(self.id, document.provider, provider_key))
        except SealBroken:
            value = None
        self._opened[provider_key] = (document, value)
        return value, True


class HeldToken:
    """What is known of an access token. `document` None: deleted, or not understood by this release."""

    __slots__ = ("account", "document", "envelope", "is_understood", "version")

    def __init__(self, account: HeldAccount, read: Versioned) -> None:
        self.account = account
        self.version = read.version
        self.envelope = read.envelope
        self.is_understood = read.is_understood
        self.document = read.document if isinstance(read.document, TokenDocument) else None


class Loading:
    """A read of Redis under way, with the changes that the follower passes meanwhile."""

    __slots__ = ("beginnings", "changes", "epoch", "position")

    def __init__(self, epoch: str | None, position: int, beginnings: int) -> None:
        self.epoch = epoch
        self.position = position
        self.beginnings = beginnings
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
        # How often it began to follow anew: changes that lie between were not passed.
        self._beginnings = 0
        self.tokens: dict[str, HeldToken] = {}
        self.accounts: dict[str, HeldAccount] = {}
        self.catalog = Catalog(ModelsDocument(providers={}))
        self.catalog_documents: dict[str, Versioned] = {}
        # Where the stream stood when the catalog was last read from its hash: older entries are in it already.
        self._catalog_position = 0
        # The operator's sealed keys by provider (managed inference), and their values.
        self.managed: Mapping[str, bytes] = {}
        self._managed_values: dict[str, tuple[bytes, str | None]] = {}
        self.refusals = 0
        self.last_refusals: deque[Refusal] = deque(maxlen=_REMEMBERED_REFUSALS)
        self.news: list[DocumentNotTaken] = []
        # Accounts (and `catalog`) that have to be read anew: the follower empties this.
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
        self.refuse(DocumentNotTaken(_shown(self.reader.keys.location(account, name)), reason))

    # ── the change stream ──

    def begin(self, epoch: str, position: int) -> None:
        """Follow from here; whatever is held has to be read anew, and serves until then."""
        self.epoch = epoch
        self.position = position
        self._beginnings += 1
        self._unknown.clear()
        for account in self.accounts.values():
            account.is_stale = True
            self.behind[account.id] = (0, position)
        self.wanted.update(self.accounts, (CATALOG,))

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
            self.refuse(DocumentNotTaken(_shown(self.reader.keys.change(change.account)), "an older change put back"))
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
        for name in _not_understood(documents):
            self.refuse_document(account, name, "has fields that this release does not understand")

    def _apply_catalog(self, change: StreamChange) -> None:
        if change.is_partial or MODELS_DOCUMENT not in change.documents:
            self.wanted.add(CATALOG)
        elif change.version > self.catalog.version:
            self.install_catalog(change.documents)
        elif self.position > self._catalog_position:
            self.refuse(DocumentNotTaken(_shown(self.reader.keys.change(CATALOG)), "an older change put back"))

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

    def begin_loading(self) -> Loading:
        """Note the position before Redis is read; whoever begins also ends."""
        loading = Loading(self.epoch, self.position, self._beginnings)
        self._loadings.append(loading)
        return loading

    def is_continued(self, loading: Loading) -> bool:
        """Whether every change since this read began has been passed, and gathered for it."""
        return loading.beginnings == self._beginnings

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
        held.become(contents.version, documents, unfit=frozenset(unfit), refused=frozenset(refused))
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

    def install_catalog(self, documents: Mapping[str, Versioned], *, position: int = 0) -> None:
        """Take in the catalog's documents. One that is older, missing or not understood leaves the last good one.

        Args:
            documents: by name.
            position: where the stream stood when they were read from the hash; 0 where a change brought them.
        """
        self._catalog_position = max(self._catalog_position, position)
        held = self.catalog_documents
        newer: dict[str, Versioned] = {}
        for name in CATALOG_DOCUMENTS:
            read, last = documents.get(name), held.get(name)
            if read is None or read.document is None or (last is not None and read.version == last.version):
                continue
            if last is not None and read.version < last.version:
                self.refuse_document(CATALOG, name, "older than what is held")
            else:
                newer[name] = read
        if not newer:
            return
        held.update(newer)
        models = held.get(MODELS_DOCUMENT)
        if models is None or not isinstance(models.document, ModelsDocument):
            return
        managed = held.get(MANAGED_DOCUMENT)
        if managed is not None and isinstance(managed.document, ManagedKeysDocument):
            self.managed = managed.document.keys
            self._managed_values = {one: known for one, known in self._managed_values.items() if one in self.managed}
        self.catalog = Catalog(models.document, version=max(one.version for one in held.values()), managed=self.managed)

    def restore_account(self, account: str, contents: Contents) -> None:
        """Take in an account as a worker before this one held it. It serves, and waits to be read anew."""
        if account not in self.accounts:
            held = self.accounts[account] = HeldAccount(account)
            held.become(contents.version, contents.documents, contents.refused)
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

    def managed_value(self, provider: str, keyring: Keyring) -> tuple[str | None, bool]:
        """The operator's own key for a provider, opened once; None where there is none that opens. And whether that is
        news."""
        sealed = self.managed.get(provider)
        if sealed is None:
            return None, False
        known = self._managed_values.get(provider)
        if known is not None and known[0] == sealed:
            return known[1], False
        try:
            value: str | None = keyring.open(sealed, managed_binding(provider))
        except SealBroken:
            value = None
        self._managed_values[provider] = (sealed, value)
        return value, True

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


def _not_understood(documents: Mapping[str, Versioned]) -> frozenset[str]:
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


def _shown(location: str) -> str:
    return location.rstrip("\n").replace("\n", " ")
