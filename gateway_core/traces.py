"""What a usage event says of its attempt's place in its request: how it ended, what followed, what was not tried.

Source: docs/decisions/0067-traces.md.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

# Bounds of one trace. A batch of 200 events has to fit into its envelope.
MOST_PASSED_OVER: Final = 8
LONGEST_NAME_BYTES: Final = 96

# Not of the enumerations below: a word of a newer worker must not make its batch be refused.
_Word = Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[a-z_]*\Z")]
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME_BYTES, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")]
_Id = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[a-z]+_[0-9a-z]{26}\Z")]
_Moment = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Completion(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    # It failed after a part of its answer had gone to the caller.
    STREAM_FAILED = "stream_failed"
    # The caller left before the end, or the worker did not say.
    UNKNOWN = "unknown"


class RetryAction(StrEnum):
    """What the gateway did after an attempt."""

    # Nothing: the caller has the answer.
    SUCCEEDED = "succeeded"
    # Tried the same model with another key, at another provider or model, or with the operator's key.
    NEXT_KEY = "next_key"
    NEXT_BACKEND = "next_backend"
    MANAGED_FALLBACK = "managed_fallback"
    # Stopped, though the plan may have had further attempts.
    FAIL_FAST = "fail_fast"
    # Stopped, because the plan had no further attempt.
    EXHAUSTED = "exhausted"


class CoolingCause(StrEnum):
    """Why a key is not asked for a while."""

    # The upstream refused it: 401, 402, 403, or what means the same by the dialect.
    KEY_REFUSED = "key_refused"
    # The upstream asked to wait: 429.
    RATE_LIMITED = "rate_limited"
    # Most of its attempts failed: no connection, no answer in time, 5xx.
    FAILING = "failing"


# The reason of a PassedOver whose key cools.
COOLING: Final = "cooling"


class PassedOver(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A candidate, or one of its keys, that was not tried."""

    # Empty where a requested name means no known provider.
    provider: _Name = ""
    model: _Name
    provider_key: _Id | None = None
    # COOLING, or the slug of the policy's denial.
    reason: _Word
    # Of a key that cools: a word of CoolingCause, and since when (microseconds since 1970).
    cause: _Word = ""
    since: _Moment = 0


class Trace(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An attempt's place in its request."""

    # The words of Completion and RetryAction.
    completion: _Word
    retry_action: _Word
    # Whether the caller got its answer, or a part of it.
    served: bool = False
    # The version of the account's snapshot by which the request was decided.
    snapshot_version: _Moment = 0
    # `aigac_…` of the access key's configuration; None for an access key without one.
    configuration: _Id | None = None
    # The JSON path of the step that gave the credentials, or `default`.
    credentials_from: _Name = ""
    # What was passed over before this attempt, the first few.
    passed_over: Annotated[tuple[PassedOver, ...], msgspec.Meta(max_length=MOST_PASSED_OVER)] = ()
