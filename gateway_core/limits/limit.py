"""A limit as a snapshot holds it.

Amounts are whole numbers: billionths of a dollar for `cost`, else tokens, requests or requests at one time. Every sum
of them stays below 2^53, so that Lua counts it exactly.

Source: docs/decisions/0120-limits.md.
"""

import hashlib
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple

import msgspec


class Measure(StrEnum):
    """What a limit counts."""

    COST = "cost"
    TOKENS = "tokens"
    INPUT_TOKENS = "inputTokens"
    OUTPUT_TOKENS = "outputTokens"
    REQUESTS = "requests"
    CONCURRENCY = "concurrency"


class Period(StrEnum):
    """For how long a limit counts before it begins again. `NONE` belongs to `concurrency`."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"
    NONE = ""


class Mode(StrEnum):
    """Whether a limit refuses requests, or only counts what it would refuse."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


# A dollar in the unit of `cost` amounts.
DOLLAR: Final = 1_000_000_000
# What an amount may be: a million dollars; and more tokens than any account uses.
MOST: Final = {
    Measure.COST: 1_000_000 * DOLLAR,
    Measure.TOKENS: 10**12,
    Measure.INPUT_TOKENS: 10**12,
    Measure.OUTPUT_TOKENS: 10**12,
    Measure.REQUESTS: 10**12,
    Measure.CONCURRENCY: 100_000,
}
# The interval between two requests is counted in whole microseconds.
MOST_REQUESTS_A_MINUTE: Final = 1_000_000
MOST_LIMITS: Final = 10
MOST_OVERRIDES: Final = 10
MOST_NAMES: Final = 100
# The periods that begin at a calendar's midnight, and so in a time zone.
CALENDAR_PERIODS: Final = frozenset({Period.DAY, Period.WEEK, Period.MONTH})

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=MOST_NAMES)]
_Amount = Annotated[int, msgspec.Meta(ge=1, le=10**15)]


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The attempts that a limit counts. A member that is None lets every attempt count."""

    providers: _Names | None = None
    # `model`, or `provider:model`, without case.
    models: _Names | None = None
    key_sources: tuple[Literal["ngrok", "user"], ...] | None = None


class Override(msgspec.Struct, frozen=True, rename="camel"):
    """Another amount until a moment, in microseconds since 1970."""

    amount: _Amount
    until: int


class Limit(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One limit of an access key or an account."""

    measure: Measure
    amount: _Amount
    period: Period = Period.NONE
    # An IANA name; of calendar periods only.
    time_zone: _Name = "UTC"
    mode: Mode = Mode.ENFORCE
    counts: Counts | None = None
    overrides: Annotated[tuple[Override, ...], msgspec.Meta(max_length=MOST_OVERRIDES)] = ()
    # When counting began, in microseconds since 1970. 0: with its owner, so that nothing was used before.
    since: int = 0

    @property
    def is_rate(self) -> bool:
        """Whether it lets requests pass at a steady rate, with a burst (gateway_core.limits.rates)."""
        return self.measure is Measure.REQUESTS and self.period is Period.MINUTE

    def amount_at(self, now: int) -> int:
        """The amount at a moment: the largest of the overrides that have not ended, else its own."""
        return max((one.amount for one in self.overrides if now < one.until), default=self.amount)


def in_billionths(dollars: Decimal) -> int:
    """A cost in the unit of `cost` amounts, rounded up. Both planes count by it, and so the same."""
    return int((dollars * DOLLAR).to_integral_value(ROUND_CEILING))


class Used(NamedTuple):
    """What one attempt used, or may use."""

    # Billionths of a dollar.
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # 1 for the attempt that stands for its request.
    requests: int = 0

    def of(self, measure: Measure) -> int:
        """As much of it as a limit of this measure counts."""
        match measure:
            case Measure.COST:
                return self.cost
            case Measure.TOKENS:
                return self.input_tokens + self.output_tokens
            case Measure.INPUT_TOKENS:
                return self.input_tokens
            case Measure.OUTPUT_TOKENS:
                return self.output_tokens
            case _:
                return self.requests


def identity(limit: Limit) -> str:
    """The name of what a limit counts, 15 hexadecimal digits.

    Its amount, mode and overrides do not matter: a limit keeps its count when they change.
    """
    counts = limit.counts or Counts()
    told = [
        limit.measure,
        limit.period,
        limit.time_zone,
        *(sorted(names) if names is not None else None for names in (counts.providers, counts.models)),
        sorted(counts.key_sources) if counts.key_sources is not None else None,
    ]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:15]


def does_count(counts: Counts | None, *, provider: str, model: str, key_source: str) -> bool:
    """Whether a limit counts an attempt.

    Args:
        counts: of the limit.
        provider, model: where the attempt goes.
        key_source: `ngrok`, `user` or `none`; a provider that is called without a key counts as `user`.
    """
    if counts is None:
        return True
    if counts.providers is not None and provider not in counts.providers:
        return False
    if counts.key_sources is not None and ("ngrok" if key_source == "ngrok" else "user") not in counts.key_sources:
        return False
    if counts.models is None:
        return True
    folded = model.casefold()
    return any(one.casefold() in {folded, f"{provider}:{folded}"} for one in counts.models)
