"""The snapshot: the documents that the control plane publishes about an account, and the worker's state made of them.

Redis is a copy that may be lost at any time; PostgreSQL is the truth. With the namespace `gw` Redis holds:

    {gw}:epoch            HASH    `id` of this epoch, `complete` (0 while Redis is rebuilt), `number` of the newest
    change
    {gw}:token:<sha256>   STRING  TokenDocument
    {gw}:account:<ac_…>   HASH    `version` VersionDocument, `settings` SettingsDocument,
                                  `configuration:<aigac_…>` ConfigurationDocument,
                                  `provider:<providerId>` ProviderDocument,
                                  `providerKey:<aigpk_…>` ProviderKeyDocument
    {gw}:catalog          HASH    `version`, `models` ModelsDocument, `managed` ManagedKeysDocument
    {gw}:changes          STREAM  entry `<number>-0` with field `account` (an account's ID, or `catalog`) and field
                                  `change` (ChangeDocument); each number is one higher than the last, in all epochs
    {gw}:workers          HASH    the report of each worker: applied and refused documents (gateway_core.worker_reports)
    {gw}:acknowledged     STREAM  wakes the requests that wait for workers
    {gw}:usage            STREAM  the workers' reports of their attempts (gateway_core.usage_events)

Every document is a signed envelope (gateway_core.envelopes). It names its version and is bound to its place in Redis.
So a document is refused if somebody who can write Redis moved it, changed it or made it up. A change carries the
documents themselves: a worker goes from one consistent state to the next by one entry, and reads an account's hash only
to load it.

Source: docs/decisions/0009-snapshots.md.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec

from gateway_core import durations
from gateway_core.catalog import Surface, model_key

# The largest sizes that a worker accepts. The control plane's own limits are well below each of them.
MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
MAX_CHANGE_BYTES: Final = 256 * 1024
# A number of more digits is none of ours: Lua, which counts it, is exact up to 2^53.
MAX_NUMBER_DIGITS: Final = 15
_MAX_LIST: Final = 100_000

_Id = Annotated[str, msgspec.Meta(min_length=4, max_length=64, pattern=r"^[a-z]+_[0-9a-z]{26}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_ListOf = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=_MAX_LIST)]


class DocumentRefused(Exception):
    """A document is malformed, out of bounds or too old. The message never holds its content."""


class DocumentNotUnderstood(DocumentRefused):
    """A newer document has fields that this release must understand and does not. Its object is not served."""


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    # Fields that a reader must know to obey this document. A reader that does not know them refuses it.
    must_understand: tuple[str, ...] = ()


class VersionDocument(_Document, frozen=True):
    """An empty body. The version of an account's snapshot is the version of this document's envelope."""


class TokenDocument(_Document, frozen=True):
    """The account, access key and configuration that an access token belongs to."""

    account: _Id
    access_key: _Id
    configuration: _Id | None = None
    # Microseconds since 1970.
    expires_at: int | None = None
    disabled: bool = False


class SettingsDocument(_Document, frozen=True):
    """The settings for every request of an account. Durations are Go durations (contract, section 7)."""

    total_timeout: _Name = "120s"
    per_request_timeout: _Name = "60s"
    # Of a stream, from its first content to its end.
    stream_timeout: _Name = "30m"
    max_input_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    has_credits: bool = False


class Scope(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The providers and models that an access key may reach. None restricts nothing; an empty tuple allows nothing."""

    # Provider IDs (never `aigp_…`: the control plane resolves those).
    providers: _ListOf | None = None
    # (provider, model) where the entry names a provider; ("", open model ID) where it does not.
    models: Annotated[tuple[tuple[str, _Name], ...], msgspec.Meta(max_length=_MAX_LIST)] | None = None


class Step(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One source of a rule's credentials: managed inference (`ngrok`), or provider keys in order (`user`)."""

    type: Literal["ngrok", "user"]
    keys: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=_MAX_LIST)] = ()


class Rule(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The steps for one provider, or for one of its models."""

    provider: _Name
    steps: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=_MAX_LIST)]
    model: _Name | None = None


class ConfigurationDocument(_Document, frozen=True):
    """A configuration as the data plane obeys it."""

    scope: Scope = Scope()
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=_MAX_LIST)] = ()


class ProviderKeyDocument(_Document, frozen=True):
    """A sealed provider key. Only a worker's keyring opens it, and only under this account, provider and ID."""

    provider: _Name
    mask: _Name
    # Base64 of the sealed blob (gateway_core.sealing).
    sealed: bytes


class SurfaceSupport(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A surface that a custom provider serves, and the top-level parameters that it accepts (None: all)."""

    surface: Surface
    parameters: _ListOf | None = None


class ProviderDocument(_Document, frozen=True):
    """A custom provider: its base URL, its surfaces and its models."""

    id: _Id
    name: _Name
    base_url: _Text
    surfaces: Annotated[tuple[SurfaceSupport, ...], msgspec.Meta(max_length=64)]
    models: _ListOf = ()


class ManagedKeysDocument(_Document, frozen=True):
    """The operator's own upstream keys, sealed (gateway_core.sealing.managed_binding), by provider ID."""

    keys: Annotated[dict[_Name, bytes], msgspec.Meta(max_length=1000)]


class ChangeDocument(_Document, frozen=True):
    """One publication, by document name: every document that it wrote, and None for every document that it deleted.

    `is_partial` is true where the documents are too large for a change. A worker that holds the account then loads it
    again.
    """

    documents: dict[str, bytes | None]
    is_partial: bool = False


_Any = TypeVar("_Any", bound=_Document)


def encode(document: msgspec.Struct) -> bytes:
    """The body of a document in bytes, as it is signed and stored."""
    return msgspec.json.encode(document)


_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def decode(kind: type[_Any], body: bytes) -> _Any:
    """Read a document from its authenticated body, and check its shape and bounds.

    Unknown fields are ignored, so that an older worker can follow a newer control plane. They are not ignored where the
    document lists them in `must_understand`.

    Raises:
        DocumentRefused: the body is not this kind of document, or is out of bounds.
        DocumentNotUnderstood: it has fields that must be understood and that this release does not know.
    """
    decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        document: _Any = decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as fault:
        raise DocumentRefused(f"not a {kind.__name__}: {type(fault).__name__}") from None
    unknown = set(document.must_understand) - set(kind.__struct_encode_fields__)
    if unknown:
        raise DocumentNotUnderstood(
            f"a {kind.__name__} with {len(unknown)} fields that this release does not understand"
        )
    return document


class Keys:
    """The names of everything in Redis, under one hash tag (architecture, decision 2)."""

    def __init__(self, namespace: str) -> None:
        self.prefix = "{" + namespace + "}:"
        self.epoch = f"{self.prefix}epoch"
        self.changes = f"{self.prefix}changes"
        self.usage = f"{self.prefix}usage"
        self.catalog = f"{self.prefix}catalog"
        self.workers = f"{self.prefix}workers"
        self.acknowledged = f"{self.prefix}acknowledged"

    def token(self, digest: str) -> str:
        """The Redis key of a token's document, by the token's SHA-256."""
        return f"{self.prefix}token:{digest}"

    def account(self, account: str) -> str:
        """The Redis key of an account's hash, by the account's `ac_…` ID."""
        return f"{self.prefix}account:{account}"

    def location(self, account: str, document: str) -> str:
        """The place that a document is signed for: its Redis key and its field.

        Args:
            account: an account's ID, or `catalog`.
            document: `token:<digest>`, or a field of the hash.
        """
        if document.startswith("token:"):
            return f"{self.prefix}{document}\n"
        return f"{self.catalog if account == CATALOG else self.account(account)}\n{document}"

    def change(self, account: str) -> str:
        """The place that a change is signed for.

        The place does not hold the number of the change, because Redis gives it later. The version stops replays.
        """
        return f"{self.changes}\n{account}"


class EpochInRedis:
    """The fields of the hash `epoch`: its ID, whether it is complete, and the number of its newest change."""

    __slots__ = ("id", "is_complete", "number")
    FIELDS: ClassVar[list[str]] = ["id", "complete", "number"]

    def __init__(self, *, id: str, is_complete: bool, number: int) -> None:  # noqa: A002 -- the hash's own field
        self.id = id
        self.is_complete = is_complete
        self.number = number

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> "EpochInRedis":
        """Make it from the values of FIELDS, as Redis returned them."""
        identity, complete, number = (b"" if value is None else value for value in values)
        return cls(
            id=identity.decode("ascii", "replace"),
            is_complete=complete == b"1",
            # Below every number that was ever published, so that it counts as an older Redis.
            number=int(number) if number.isdigit() and len(number) <= MAX_NUMBER_DIGITS else -1,
        )


# The `account` field of a change to the catalog.
CATALOG: Final = "catalog"

VERSION_DOCUMENT: Final = "version"
SETTINGS_DOCUMENT: Final = "settings"
MODELS_DOCUMENT: Final = "models"
MANAGED_DOCUMENT: Final = "managed"


def token_document(digest: str) -> str:
    """The document name of a token."""
    return f"token:{digest}"


def configuration_document(configuration: str) -> str:
    """The document name of a configuration, by its `aigac_…` ID."""
    return f"configuration:{configuration}"


def provider_document(provider: str) -> str:
    """The document name of a custom provider, by its `providerId`."""
    return f"provider:{provider}"


def provider_key_document(provider_key: str) -> str:
    """The document name of a provider key, by its `aigpk_…` ID."""
    return f"providerKey:{provider_key}"


class CompiledSettings:
    """An account's settings with their durations in seconds."""

    __slots__ = (
        "has_credits",
        "max_input_tokens",
        "max_output_tokens",
        "per_request_timeout",
        "stream_timeout",
        "total_timeout",
    )

    def __init__(self, document: SettingsDocument) -> None:
        try:
            self.total_timeout = durations.to_seconds(durations.parse(document.total_timeout))
            self.per_request_timeout = durations.to_seconds(durations.parse(document.per_request_timeout))
            self.stream_timeout = durations.to_seconds(durations.parse(document.stream_timeout))
        except durations.InvalidDuration:
            raise DocumentRefused("a SettingsDocument with an invalid duration") from None
        self.max_input_tokens = document.max_input_tokens
        self.max_output_tokens = document.max_output_tokens
        self.has_credits = document.has_credits


class AccountSnapshot:
    """All documents of an account, read and indexed for look-ups.

    Only `apply` changes a snapshot, in one synchronous step for each change. So code that does not await sees one
    state.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.version = 0
        self.settings = CompiledSettings(SettingsDocument())
        self.configurations: dict[str, CompiledConfiguration] = {}
        self.providers: dict[str, ProviderDocument] = {}
        self.provider_keys: dict[str, ProviderKeyDocument] = {}
        # IDs of provider keys by provider, newest first. An access key without a configuration uses them in this order.
        self.keys_of: dict[str, NewestFirst] = {}
        # `aigp_…` to providerId.
        self.provider_ids: dict[str, str] = {}
        self._models_of: dict[str, ProviderModels] = {}

    def apply(self, version: int, documents: Mapping[str, msgspec.Struct | None]) -> None:
        """Apply the documents of a newer version.

        Args:
            version: must be higher than the present one.
            documents: by document name, each document as `read` returns it; None where it was deleted. Token documents
                do not belong to an account's snapshot and must not be among them.

        Raises:
            DocumentRefused: the version is not newer, and nothing was applied.
        """
        if version <= self.version:
            raise DocumentRefused("an account's version that is not newer")
        self.prepare(documents)
        self.version = version

    def prepare(self, documents: Mapping[str, msgspec.Struct | None]) -> None:
        """Take in some documents of a snapshot that is not in use yet and gets its version last."""
        for name, document in documents.items():
            self._put(name, document)

    def _put(self, name: str, document: msgspec.Struct | None) -> None:
        kind, _, key = name.partition(":")
        match kind, document:
            case "settings", SettingsDocument():
                self.settings = CompiledSettings(document)
            case "settings", None:
                self.settings = CompiledSettings(SettingsDocument())
            case "configuration", ConfigurationDocument():
                self.configurations[key] = CompiledConfiguration(document)
            case "configuration", None:
                self.configurations.pop(key, None)
            case "provider", ProviderDocument():
                self._forget_provider(key)
                self.providers[key] = document
                self._models_of[key] = ProviderModels(key, document)
                self.provider_ids[document.id] = key
            case "provider", None:
                self._forget_provider(key)
            case "providerKey", ProviderKeyDocument():
                self._forget_provider_key(key)
                self.provider_keys[key] = document
                self.keys_of.setdefault(document.provider, NewestFirst()).add(key)
            case "providerKey", None:
                self._forget_provider_key(key)
            case _:
                pass  # `version`, or a kind that only a newer control plane knows

    def spelling(self, provider: str, model: str) -> str | None:
        """A custom provider's own spelling of one of its models; None where it does not list it."""
        known = self._models_of.get(provider)
        return None if known is None else known.spellings.get(model_key(provider, model))

    def serving(self, name: str) -> list[tuple[str, str]]:
        """The custom providers that list a model of this name, as (provider, spelling), the oldest first."""
        folded = name.casefold()
        found = [
            (known.id, slug, model)
            for slug, known in self._models_of.items()
            for model in known.named.get(folded, ())
        ]  # fmt: skip
        # TypeIDs sort by age. The order in which the documents arrived must not matter.
        return [(slug, model) for _, slug, model in sorted(found)]

    def _forget_provider(self, slug: str) -> None:
        if gone := self.providers.pop(slug, None):
            self.provider_ids.pop(gone.id, None)
            del self._models_of[slug]

    def _forget_provider_key(self, key: str) -> None:
        if gone := self.provider_keys.pop(key, None):
            self.keys_of[gone.provider].remove(key)


class NewestFirst:
    """IDs of one kind, the newest first. TypeIDs sort by age."""

    __slots__ = ("_oldest_first",)

    def __init__(self) -> None:
        self._oldest_first: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return reversed(self._oldest_first)

    def __len__(self) -> int:
        return len(self._oldest_first)

    def add(self, one: str) -> None:
        """Put one in its place."""
        insort(self._oldest_first, one)

    def remove(self, one: str) -> None:
        """Take one out that is in it."""
        del self._oldest_first[bisect_left(self._oldest_first, one)]


class ProviderModels:
    """A custom provider's models indexed for look-ups."""

    __slots__ = ("id", "named", "spellings")

    def __init__(self, slug: str, document: ProviderDocument) -> None:
        self.id = document.id
        # By model key, the first of each; and all by their names without case.
        self.spellings: dict[str, str] = {}
        self.named: dict[str, list[str]] = {}
        for model in document.models:
            self.spellings.setdefault(model_key(slug, model), model)
            self.named.setdefault(model.casefold(), []).append(model)


class CompiledConfiguration:
    """A configuration indexed for look-ups. Each value holds the index of its entry in the document."""

    __slots__ = ("model_rules", "models", "open_models", "provider_rules", "providers")

    def __init__(self, document: ConfigurationDocument) -> None:
        scope = document.scope
        # None restricts nothing. Otherwise: provider IDs, (provider, model key) pairs, and open model IDs, each with
        # its index.
        self.providers: dict[str, int] | None = None
        self.models: dict[tuple[str, str], int] | None = None
        self.open_models: dict[str, int] = {}
        if scope.providers is not None:
            self.providers = {provider: place for place, provider in enumerate(scope.providers)}
        if scope.models is not None:
            self.models = {}
            for place, (provider, model) in enumerate(scope.models):
                if provider:
                    self.models[provider, model_key(provider, model)] = place
                else:
                    self.open_models[model.casefold()] = place
        self.model_rules: dict[tuple[str, str], tuple[int, Rule]] = {}
        self.provider_rules: dict[str, tuple[int, Rule]] = {}
        for place, rule in enumerate(document.rules):
            if rule.model is None:
                self.provider_rules[rule.provider] = (place, rule)
            else:
                self.model_rules[rule.provider, model_key(rule.provider, rule.model)] = (place, rule)


_KINDS: Final[dict[str, type[_Document]]] = {
    "settings": SettingsDocument,
    "configuration": ConfigurationDocument,
    "provider": ProviderDocument,
    "providerKey": ProviderKeyDocument,
    "token": TokenDocument,
    "version": VersionDocument,
}


def read(name: str, body: bytes) -> _Document | None:
    """Read the document of a given name from its body; None for a kind that this release does not know.

    Raises:
        DocumentRefused: as `decode`; also for a settings document with an invalid duration.
    """
    kind = _KINDS.get(name.partition(":")[0])
    if kind is None:
        return None
    document = decode(kind, body)
    if isinstance(document, SettingsDocument):
        CompiledSettings(document)
    return document


def snapshot_of(account: str, version: int, documents: Iterable[tuple[str, msgspec.Struct]]) -> AccountSnapshot:
    """An account's snapshot, made of all its documents."""
    snapshot = AccountSnapshot(account)
    snapshot.apply(version, dict(documents))
    return snapshot
