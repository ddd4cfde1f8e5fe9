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
    {gw}:limits, {gw}:limits:wanted, {gw}:limit:…  the counts of limits (gateway_core.limits.names)

Every document is a signed envelope (gateway_core.envelopes). It names its version and is bound to its place in Redis.
So a document is refused if somebody who can write Redis moved it, changed it or made it up. A change carries the
documents themselves: a worker goes from one consistent state to the next by one entry, and reads an account's hash only
to load it.

Source: docs/decisions/0009-snapshots.md.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import msgspec

from gateway_core import durations
from gateway_core.catalog import KeyHeader, Surface
from gateway_core.limits.limit import MOST_LIMITS, Limit

# The largest sizes that a worker accepts. The control plane's own limits are well below each of them.
MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
MAX_CHANGE_BYTES: Final = 256 * 1024
# A number of more digits is none of ours: Lua, which counts it, is exact up to 2^53.
MAX_NUMBER_DIGITS: Final = 15
_MAX_LIST: Final = 100_000
# Of a key in a step.
MAX_WEIGHT: Final = 1000

_Id = Annotated[str, msgspec.Meta(min_length=4, max_length=64, pattern=r"^[a-z]+_[0-9a-z]{26}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_ListOf = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=_MAX_LIST)]
_Limits = Annotated[tuple[Limit, ...], msgspec.Meta(max_length=MOST_LIMITS)]


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
    # None: those that the account's settings have for access keys. A document that has some lists the field in
    # `must_understand`: a release that does not know limits must not serve the key without them.
    limits: _Limits | None = None


class SettingsDocument(_Document, frozen=True):
    """The settings for every request of an account. Durations are Go durations (contract, section 7)."""

    total_timeout: _Name = "120s"
    per_request_timeout: _Name = "60s"
    # Of a stream, from its first content to its end.
    stream_timeout: _Name = "30m"
    max_input_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    has_credits: bool = False
    # Of the account, and of each of its access keys that has none of its own.
    limits: _Limits = ()
    access_key_limits: _Limits = ()


class Scope(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The providers and models that an access key may reach. None restricts nothing; an empty tuple allows nothing."""

    # Provider IDs (never `aigp_…`: the control plane resolves those).
    providers: _ListOf | None = None
    # (provider, model) where the entry names a provider; ("", open model ID) where it does not.
    models: Annotated[tuple[tuple[str, _Name], ...], msgspec.Meta(max_length=_MAX_LIST)] | None = None


class Step(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One source of a rule's credentials: managed inference (`ngrok`), or provider keys (`user`)."""

    type: Literal["ngrok", "user"]
    keys: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=_MAX_LIST)] = ()
    # How a request chooses among the keys (gateway_core.plans.Strategy). No enumeration: a reader of an older release
    # takes the keys in order.
    strategy: Annotated[str, msgspec.Meta(max_length=32)] = "ordered"
    # With `weighted`: of each key, by its place; a key without one has 1.
    weights: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=MAX_WEIGHT)], ...], msgspec.Meta(max_length=_MAX_LIST)
    ] = ()


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
    # How the key is shown; None: as the dialect has it.
    auth: KeyHeader | None = None
    # Sent with every request, lower case.
    headers: Annotated[dict[_Name, _Text], msgspec.Meta(max_length=100)] = {}
    # By surface, where it does not stand behind the base URL: path and query from the root of the host. `{model}` in
    # the path is the model's name (gateway_core.upstream_requests).
    paths: Annotated[dict[_Name, _Text], msgspec.Meta(max_length=64)] = {}
    # Of gateway_core.dialects; empty: that of the surface's format.
    dialect: str = ""


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


class Timeouts(NamedTuple):
    """The time limits of an account's settings, in seconds."""

    total: float
    per_request: float
    stream: float


def seconds_of(settings: SettingsDocument) -> Timeouts:
    """The time limits in seconds.

    Raises:
        DocumentRefused: one of them is not a duration.
    """
    given = (settings.total_timeout, settings.per_request_timeout, settings.stream_timeout)
    try:
        return Timeouts(*(durations.to_seconds(durations.parse(text)) for text in given))
    except durations.InvalidDuration:
        raise DocumentRefused("a SettingsDocument with an invalid duration") from None


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
        seconds_of(document)
    return document
