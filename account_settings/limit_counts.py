"""What is used of limits at the moment, as Redis counts it.

Source: docs/decisions/0120-limits.md.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from gateway_core.limits import names, rates
from gateway_core.limits.counting import Count
from gateway_core.limits.limit import DOLLAR, Limit, Measure, identity
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import NEVER, window_at
from snapshots.redis_client import inline_store, keys

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SECOND: Final = 1_000_000
_MINUTE: Final = 60


class Owned(NamedTuple):
    """A limit and its owner: `aigk_…` or `ac_…`, and when that was made, in microseconds since 1970."""

    limit: Limit
    owner: str
    made_at: int


class State(NamedTuple):
    """What is used of a limit, in the limit's unit."""

    used: int
    reserved: int
    remaining: int
    # When the window ends; None where it does not.
    resets_at: datetime | None

    def on_the_wire(self, measure: Measure) -> dict[str, Any]:
        """The members that a read adds to a limit."""
        amounts = {"used": self.used, "reserved": self.reserved, "remaining": self.remaining}
        shown: dict[str, Any] = {name: _shown(measure, amount) for name, amount in amounts.items()}
        if self.resets_at is not None:
            shown["resetsAt"] = self.resets_at.isoformat().replace("+00:00", "Z")
        return shown


def states_of(limits: Sequence[Owned]) -> list[State | None]:
    """What is used of each limit; None where that is not known at the moment."""
    if not limits:
        return []
    now = time.time_ns() // 1000
    found = [CountName(one.owner, identity(one.limit), window_at(one.limit, now).start // _SECOND) for one in limits]
    try:
        with inline_store().redis.pipeline(transaction=False) as pipeline:
            pipeline.hget(keys().epoch, "id")
            pipeline.hmget(names.marker(keys()), "epoch", "since")
            for name in found:
                pipeline.hgetall(names.count(keys(), name))
            epoch, marker, *counts = pipeline.execute()
    except (RedisError, OSError) as fault:
        log.info("what is used of limits is not known", fault=type(fault).__name__)
        return [None] * len(limits)
    since = int(marker[1]) if epoch is not None and marker[0] == epoch else None
    return [_state(one, _text(count), epoch, since, now) for one, count in zip(limits, counts, strict=True)]


def _state(one: Owned, fields: dict[str, str], epoch: bytes | None, since: int | None, now: int) -> State | None:
    if epoch is None:
        return None
    limit, window = one.limit, window_at(one.limit, now)
    amount = limit.amount_at(now)
    used = reserved = 0
    resets_at = None if window.end == NEVER else datetime.fromtimestamp(window.end / _SECOND, UTC)
    if fields.get("epoch") == epoch.decode():
        if limit.is_rate:
            used = rates.in_use(int(fields.get("empty_at", 0)), now, amount)
        else:
            count = Count.of(fields)
            used, reserved = count.used(), count.reserved(now)
    elif not _is_fresh(one, window.start, since, now):
        # Redis does not know it, and something may have been used.
        return None
    return State(used, reserved, max(amount - used - reserved, 0), resets_at)


def _is_fresh(one: Owned, start: int, since: int | None, now: int) -> bool:
    """Whether nothing was used: Redis has counted since the window began, and holds no count."""
    if one.limit.measure is Measure.CONCURRENCY:
        return True
    begin = max(now - _MINUTE * _SECOND if one.limit.is_rate else start, one.made_at)
    return since is not None and since <= begin and one.limit.since <= begin


def _shown(measure: Measure, amount: int) -> Any:
    if measure is not Measure.COST:
        return amount
    return f"{(Decimal(amount) / DOLLAR).quantize(Decimal('0.00001')):f}"


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def with_states(limits: Iterable[dict[str, Any]], states: Iterable[State | None]) -> list[dict[str, Any]]:
    """Limits as a read shows them."""
    return [
        {**one, **(state.on_the_wire(Measure(one["measure"])) if state is not None else {})}
        for one, state in zip(limits, states, strict=True)
    ]
