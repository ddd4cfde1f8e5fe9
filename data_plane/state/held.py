"""An account and a token as a worker holds them.

Only the follower changes what is held. Requests add what they derive from it: plans, opened provider keys and targets,
all of them forgotten when the account changes.
"""

from collections.abc import Mapping
from typing import Any, Final

from data_plane.state.documents import Contents, Versioned, not_understood
from gateway_core.account_snapshot import AccountSnapshot, CompiledSettings
from gateway_core.catalog import Catalog, Surface
from gateway_core.plans import Denial, Plan
from gateway_core.policy import MOST_ATTEMPTS, SnapshotIncomplete, resolve
from gateway_core.sealing import Binding, Keyring, SealBroken
from gateway_core.snapshot import ProviderKeyDocument, TokenDocument, provider_document

# How many bytes the remembered plans of one account may have, and about how many an attempt or a refusal has.
_PLANS_BYTES: Final = 1024 * 1024
_PLAN_BYTES: Final = 512


class HeldAccount:
    """An account as a worker holds it: its snapshot, and what was made of it for requests."""

    __slots__ = (
        "_opened",
        "_plans",
        "_plans_of",
        "_plans_weight",
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
        # Waits to be loaded again; until then it serves and takes no changes.
        self.is_stale = False
        # The digests of its tokens that are held, tombstones included.
        self.tokens: set[str] = set()
        # Where requests to its custom providers go (data_plane.forwarding.targets), by provider and surface.
        self.targets: dict[tuple[str, Surface], object] = {}
        self._opened: dict[str, tuple[ProviderKeyDocument, str | None]] = {}
        self._plans: dict[tuple[str | None, tuple[str, ...], Surface], Plan | Denial] = {}
        self._plans_of: Catalog | None = None
        self._plans_weight = 0

    @property
    def is_whole(self) -> bool:
        """Whether all that was published of it is in force."""
        return not self.is_stale and not self.refused

    def take(self, version: int, documents: Mapping[str, Versioned]) -> None:
        """Go to a newer version by the documents that changed."""
        self.snapshot.apply(version, {name: read.document for name, read in documents.items()})
        self.documents.update(documents)
        gone = {name for name, read in documents.items() if read.is_understood}
        self.unfit = (self.unfit - gone) | not_understood(documents)
        self.refused = (self.refused - gone) | not_understood(documents)
        self._forget()

    def become(
        self,
        version: int,
        documents: dict[str, Versioned],
        unfit: frozenset[str],
        refused: frozenset[str] = frozenset(),
        contents: Contents | None = None,
    ) -> None:
        """Go to a state that was loaded whole, but for what was refused; its tokens are another matter.

        Args:
            version, documents, unfit, refused: the state.
            contents: what was read. A snapshot that was prepared of it is taken, and must not be taken again.
        """
        prepared = None if contents is None else contents.prepared
        fresh = AccountSnapshot(self.id) if prepared is None else prepared
        known = {} if contents is None or prepared is None else contents.documents
        fresh.apply(
            version,
            {
                name: read.document
                for name, read in documents.items()
                if read is not known.get(name) and (read.document is not None or name in known)
            },
        )
        self.snapshot = fresh
        self.documents = documents
        self.unfit = unfit | not_understood(documents)
        self.refused = refused | not_understood(documents)
        self.is_stale = False
        self._forget()

    def _forget(self) -> None:
        self._plans.clear()
        self._plans_weight = 0
        self.targets.clear()
        held = self.snapshot.provider_keys
        self._opened = {key: opened for key, opened in self._opened.items() if held.get(key) is opened[0]}

    def resolve(
        self,
        catalog: Catalog,
        configuration: str | None,
        requested: tuple[str, ...],
        surface: Surface,
        most_attempts: int = MOST_ATTEMPTS,
    ) -> Plan | Denial:
        """The policy's answer, remembered for as long as snapshot and catalog stay as they are.

        Raises:
            SnapshotIncomplete: no decision can be made from what is held.
        """
        if self._plans_of is not catalog:
            self._plans.clear()
            self._plans_weight = 0
            self._plans_of = catalog
        asked = (configuration, requested, surface)
        outcome = self._plans.get(asked)
        if outcome is None:
            outcome = resolve(
                self.snapshot,
                catalog,
                configuration=configuration,
                requested=requested,
                surface=surface,
                most_attempts=most_attempts,
            )
            if isinstance(outcome, Denial) and (self.unfit or catalog.version == 0):
                raise SnapshotIncomplete("a denial from a snapshot that is not whole")
            if self.unfit and isinstance(outcome, Plan) and not self.unfit.isdisjoint(_providers_of(outcome)):
                # A built-in provider has its name, and would be sent its keys.
                raise SnapshotIncomplete("a provider of the account's own that was not taken")
            weight = _PLAN_BYTES * (1 + len(outcome.skipped) + _attempts_of(outcome)) + 4 * sum(map(len, requested))
            if self._plans_weight + weight > _PLANS_BYTES:
                self._plans.clear()
                self._plans_weight = 0
            self._plans[asked] = outcome
            self._plans_weight += weight
        return outcome

    def value_of(self, provider_key: str, keyring: Keyring) -> tuple[str | None, bool]:
        """A provider key's value.

        Returns:
            (value, is_first_try): the value is None if it does not open. It is opened once for each document.
        """
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


def _providers_of(plan: Plan) -> set[str]:
    """The document names that the providers of a plan have, if they are the account's own."""
    return {provider_document(attempt.provider) for attempt in plan.attempts}


def _attempts_of(outcome: Plan | Denial) -> int:
    return len(outcome.attempts) if isinstance(outcome, Plan) else 0


class HeldToken:
    """What is known of an access token. `document` None: deleted, or not understood by this release."""

    __slots__ = ("account", "document", "envelope", "is_understood", "limits", "limits_of", "version")

    def __init__(self, account: HeldAccount, read: Versioned) -> None:
        self.account = account
        self.version = read.version
        self.envelope = read.envelope
        self.is_understood = read.is_understood
        self.document = read.document if isinstance(read.document, TokenDocument) else None
        # What was made of its limits and its account's, and of which settings (data_plane.limits.held_limits).
        self.limits: tuple[Any, ...] = ()
        self.limits_of: CompiledSettings | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the access key or its account may have limits."""
        settings, document = self.account.snapshot.settings, self.document
        return bool(settings.is_limiting or (document is not None and document.limits))
