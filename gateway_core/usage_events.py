"""Usage events: the reports of a worker about each attempt, and the form in which they go to the control plane.

A worker makes one `UsageEvent` for each attempt at an upstream and sends them in batches. A batch is one entry of the
Redis stream `{gw}:usage`, with one field `batch`: an envelope (gateway_core.envelopes) with the purpose USAGE,
bound to the stream. Its version is the worker's clock in microseconds. Somebody who can write Redis can neither make up
a batch nor change one. A batch that is sent again changes nothing, because an event counts once by its ID.

The ID of an event is a UUIDv7 made of the event's own time. So one ID belongs to one moment, and to one partition of
the table of events.

Decoding validates: a batch with one event out of bounds is refused as a whole.

Source: docs/decisions/0060-usage-events.md.
"""

import re
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from typeid.codecs import base32

from gateway_core import ids
from gateway_core.distinct_bits import distinct_bits
from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.limits.limit import MOST_LIMITS, Measure
from gateway_core.snapshot import Keys
from gateway_core.traces import LONGEST_NAME_BYTES, Trace

# The field of a stream entry that holds the envelope.
BATCH_FIELD: Final = "batch"
# Bounds of one batch.
MAX_EVENTS: Final = 200
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
# No request has more tokens than this, and the sum of a million events still fits into 64 bits.
MAX_COUNT: Final = 1_000_000_000

_LAST_MICROSECOND: Final = 2**48 * 1000 - 1
_MILLISECOND: Final = 1000
_ID_LEAD: Final = f"{ids.Prefix.USAGE_EVENT}_"
_LONGEST: Final = 255
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
# Bounded, and without the characters that PostgreSQL (NUL) or a log cannot hold.
_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")]
_Name = Annotated[
    str, msgspec.Meta(min_length=1, max_length=_LONGEST, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+\Z")
]


def _id(prefix: ids.Prefix) -> msgspec.Meta:
    return msgspec.Meta(pattern=rf"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}\Z", max_length=64)


class BatchRefused(ValueError):
    """No holder of a document key wrote this usage batch, or it is out of bounds. None of its events counts."""


# A worker makes no more attempts for one request (its REQUEST_ATTEMPTS).
MOST_RECORDED_ATTEMPTS: Final = 10_000


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """A count of a limit in which the worker counted this attempt (gateway_core.limits.names)."""

    # Whose limit it is: of the access key, or of the account.
    owner: Literal["key", "account"]
    measure: Measure
    # The number that the limit's identity is in hexadecimal.
    identity: Annotated[int, msgspec.Meta(ge=0, le=2**60 - 1)]
    # The window's first second.
    start: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    # The life of the count that the worker knew; 0 for none.
    life: Annotated[int, msgspec.Meta(ge=0, le=2**60)]
    # How often the worker had begun in this count: its name there is `<worker>.<turn>`.
    turn: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    # What the worker counted, in the limit's unit.
    amount: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One attempt at one upstream.

    Tokens are counted as OpenAI counts them, for every upstream: `input_tokens` includes those read from and written to
    a cache, `output_tokens` includes reasoning.
    """

    # `aigue_…`, from `event_id(time)`.
    id: Annotated[str, _id(ids.Prefix.USAGE_EVENT)]
    # When the attempt began: microseconds since 1970.
    time: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MICROSECOND)]
    # The `x-request-id` of the request that the attempt served.
    request_id: _Name
    account: Annotated[str, _id(ids.Prefix.ACCOUNT)]
    access_key: Annotated[str, _id(ids.Prefix.ACCESS_KEY)]
    # The `providerId`, and the name of the model as it was sent upstream.
    provider: _Name
    model: _Name
    # The model name in the caller's request.
    requested_model: _Name
    # From 1 within a request.
    attempt: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDED_ATTEMPTS)]
    # Whether the caller received the outcome of this attempt.
    is_final: bool
    # "user": a stored provider key; "ngrok": managed inference; "none": a custom provider without credentials.
    key_source: Literal["user", "ngrok", "none"]
    # The HTTP status of the upstream; 0 where it gave none.
    status: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    # The status that the upstream's answer means by its dialect, where it comes under another one; else 0.
    meant_status: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    timed_out: bool = False
    is_error: bool = False
    is_streaming: bool = False
    # In the upstream's own spelling; empty where it gave none.
    stop_reason: _Text = ""
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_read_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    reasoning_tokens: _Count = 0
    # Of `cache_write_tokens`, those that are kept for an hour.
    cache_write_1h_tokens: _Count = msgspec.field(default=0, name="cacheWrite1hTokens")
    # How many of `input_tokens`, `output_tokens` and `cache_read_tokens` were of sounds, and how many of pictures.
    input_audio_tokens: _Count = 0
    cache_read_audio_tokens: _Count = 0
    output_audio_tokens: _Count = 0
    input_image_tokens: _Count = 0
    cache_read_image_tokens: _Count = 0
    output_image_tokens: _Count = 0
    # Searches that the upstream made by itself.
    web_searches: _Count = 0
    # The service tier that served the request, in the upstream's own spelling; empty for the usual tier.
    service_tier: _Text = ""
    # Whether a number is an estimate, because the answer did not report it.
    usage_estimated: bool = False
    # With "user" only: `aigpk_…`, and the mask that the key had then.
    provider_key: Annotated[str, _id(ids.Prefix.PROVIDER_KEY)] | None = None
    mask: _Text | None = None
    # From the start of the attempt to its last byte.
    duration_ms: _Count = 0
    # From the start of the attempt to the beginning of its answer: a stream's first content, the head of any other.
    first_byte_ms: _Count | None = None
    # When the request had been read: microseconds since 1970, the same in all its attempts. None from older workers.
    requested_at: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MICROSECOND)] | None = None
    # None from older workers.
    trace: Trace | None = None
    # The counts of limits that it is in, and the ID of the worker that counted it there.
    counted: Annotated[tuple[Counted, ...], msgspec.Meta(max_length=2 * MOST_LIMITS)] = ()
    counted_by: _Text = ""

    def __post_init__(self) -> None:
        """Check the fields against each other. msgspec turns the ValueError into a ValidationError."""
        # A UUIDv7 begins with its milliseconds in 48 bits. The check must be cheap: it runs for every event.
        if self.id[: len(_ID_LEAD)] != _ID_LEAD or not _is_of(self.id[len(_ID_LEAD) :], self.time // _MILLISECOND):
            raise ValueError("the ID was made for another time than the event's")
        if (self.provider_key is not None) != (self.key_source == "user"):
            raise ValueError("a provider key belongs to the key source `user`, and only to it")


# The counts of kinds that only some attempts have.
OTHER_COUNTS: Final = (
    *("cache_write_1h_tokens", "input_audio_tokens", "cache_read_audio_tokens", "output_audio_tokens"),
    *("input_image_tokens", "cache_read_image_tokens", "output_image_tokens", "web_searches"),
)


class UsageBatch(msgspec.Struct, frozen=True, rename="camel"):
    """The events that one worker sends together."""

    worker: _Name
    events: Annotated[tuple[UsageEvent, ...], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


def event_id(time: int) -> str:
    """A new event's ID, `aigue_…`, for the moment at which its attempt began.

    IDs sort by that moment to the microsecond. 64 random bits distinguish two IDs of the same moment.

    Args:
        time: microseconds since 1970. The event's `time` must be the same number.

    Source: RFC 9562, section 5.7 and method 3 of section 6.2.
    """
    milliseconds, microseconds = divmod(time, _MILLISECOND)
    random = distinct_bits(64)
    # 12 bits: the microseconds in 10, the rest random. Then the variant's two bits and 62 random ones.
    high = microseconds << 2 | random & 0b11
    value = milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | random >> 2
    return _ID_LEAD + base32.encode(value.to_bytes(16))


def _is_of(suffix: str, milliseconds: int) -> bool:
    try:
        return bool(base32.decode(suffix)[:6] == milliseconds.to_bytes(6))
    except RuntimeError:
        return False


def time_of(event: uuid.UUID) -> int:
    """The time that an event's ID was made for, in milliseconds since 1970."""
    return event.int >> 80


def seal_events(
    keys: Keys, document_keys: DocumentKeys, worker: str, events: Sequence[bytes], *, version: int
) -> bytes:
    """The envelope of a batch whose events are encoded already.

    Args:
        keys: the Redis keys of the deployment. The batch is valid for this deployment only.
        document_keys: the first one signs.
        worker: the ID of the worker that sends the batch.
        events: 1 to MAX_EVENTS events as JSON.
        version: the worker's clock in microseconds.

    Raises:
        ValueError: the batch has more than MAX_BATCH_BYTES.
    """
    batch = {"worker": worker, "events": [msgspec.Raw(event) for event in events]}
    return _sealed(keys, document_keys, batch, version)


def open_batch(keys: Keys, document_keys: DocumentKeys, envelope: bytes) -> UsageBatch:
    """The batch in an envelope.

    Raises:
        BatchRefused: the message gives the reason and repeats nothing of the content.
    """
    try:
        found = document_keys.verify(Purpose.USAGE, _location(keys), envelope, limit=MAX_BATCH_BYTES)
    except NotAuthentic as fault:
        raise BatchRefused(str(fault)) from None
    try:
        return _decoder.decode(found.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        raise BatchRefused(f"not a UsageBatch: {type(fault).__name__}") from None


def within_bounds(encoded: bytes) -> bytes | None:
    """An event that breaks a bound as one that keeps it: numbers are clamped, texts cut, a trace is left out.

    It says that its numbers are estimated. None for what cannot be mended (cut in two, without an ID): a process that
    was killed has left it so.
    """
    try:
        event = msgspec.json.decode(encoded, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for field in msgspec.structs.fields(UsageEvent):
        value = event.get(field.encode_name)
        if isinstance(value, int) and not isinstance(value, bool) and field.name not in _TIMES:
            event[field.encode_name] = min(max(value, int(field.name == "attempt")), _MOST.get(field.name, MAX_COUNT))
        elif isinstance(value, str):
            event[field.encode_name] = fit(value) or (_NAMELESS if field.name in _NAMES else "")
    for name in _NOT_CHARGED:
        event.pop(name, None)
    event["usageEstimated"] = True
    mended = msgspec.json.encode(event)
    try:
        msgspec.json.decode(mended, type=UsageEvent)
    except msgspec.DecodeError:
        return None
    return mended


_TIMES: Final = frozenset({"time", "requested_at"})
_MOST: Final = {"attempt": MOST_RECORDED_ATTEMPTS, "status": 999, "meant_status": 999}
# Texts that are not empty, and what stands where one is.
_NAMES: Final = frozenset({"request_id", "provider", "model", "requested_model"})
_NAMELESS: Final = "?"
_NOT_CHARGED: Final = ("trace", "requestedAt")


@lru_cache(maxsize=1024)
def fit(text: str) -> str:
    """Fit a foreign text into an event: drop control characters and cut it at 255 characters."""
    return _UNFIT.sub("", text)[:_LONGEST]


def fit_name(text: str) -> str:
    """Fit a foreign name into a trace: as `fit`, and in UTF-8 at most 96 bytes."""
    return fit(text).encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")


def _sealed(keys: Keys, document_keys: DocumentKeys, batch: object, version: int) -> bytes:
    body = msgspec.json.encode(batch)
    return document_keys.sign(Purpose.USAGE, _location(keys), version, body, limit=MAX_BATCH_BYTES)


def _location(keys: Keys) -> str:
    return f"{keys.usage}\n{BATCH_FIELD}"


_decoder: Final = msgspec.json.Decoder(UsageBatch)
