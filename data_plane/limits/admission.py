"""Lets a request through where all of its limits have room for it, and counts what it used.

A request reserves the most that it may use before anything is sent. Each attempt is counted when it is recorded, and
what is left of the reservation is given back when the request has ended.

Source: docs/decisions/0120-limits.md.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from data_plane.limits.held_limits import HeldLimit
from data_plane.limits.prices import cost_of
from data_plane.limits.refusals import LimitExceeded, LimitsUnknown
from data_plane.limits.shares import LimitsUnreachable, Share, Shares
from gateway_core.catalog import Catalog
from gateway_core.limits.counting import LIFE, Verdict
from gateway_core.limits.limit import Measure, Period, Used, does_count
from gateway_core.limits.windows import NEVER, TimeZoneUnknown
from gateway_core.usage_events import Counted, UsageEvent

_SECOND: Final = 1_000_000
# How long a request waits for a count that Redis does not know, and between two calls.
_UNKNOWN_WAIT: Final = 2.0
_PAUSE: Final = 0.1
# How long it waits for what others hold: one of them may have died.
_RECALL_WAIT: Final = 2 * LIFE / _SECOND
# A place is looked for at least so often: another worker's request may have left it.
_PLACE_PAUSE: Final = 0.25
_PLACE_RETRY: Final = 1.0

_PERIODS: Final = {
    Period.MINUTE: "in a minute",
    Period.HOUR: "in an hour",
    Period.DAY: "in a day",
    Period.WEEK: "in a week",
    Period.MONTH: "in a month",
    Period.TOTAL: "in total",
}

Record = Callable[[UsageEvent], None]


class Need(NamedTuple):
    """What a request may use of one limit at most."""

    held: HeldLimit
    amount: int


class Admission:
    """What one request has reserved."""

    __slots__ = ("_catalog", "_parts", "_record", "_shares")

    def __init__(self, shares: Shares, catalog: Catalog, record: Record) -> None:
        """
        Args:
            shares: of the worker.
            catalog: prices by this catalog.
            record: takes the events, with the counts that they are in.
        """
        self._shares = shares
        self._catalog = catalog
        self._record = record
        # Each with what of its reservation is left.
        self._parts: list[tuple[Share, HeldLimit, int]] = []

    @property
    def shares(self) -> Iterable[tuple[Share, HeldLimit]]:
        """The shares that the request has reserved in."""
        return ((share, held) for share, held, _ in self._parts)

    def add(self, share: Share, need: Need) -> None:
        """Note what was reserved."""
        self._parts.append((share, need.held, need.amount))

    def record(self, event: UsageEvent) -> None:
        """Count an attempt, and record it."""
        used = Used(cost_of(self._catalog, event), event.input_tokens, event.output_tokens, 1 if event.is_final else 0)
        counted: list[Counted] = []
        for place, (share, held, left) in enumerate(self._parts):
            kind = share.kind
            if kind != "c":
                continue
            is_counted = held.counts is None or does_count(
                held.counts, provider=event.provider, model=event.model, key_source=event.key_source
            )
            amount = used.of(held.measure) if is_counted else 0
            freed = left if event.is_final else min(left, amount)
            share.settle(freed, amount)
            self._parts[place] = (share, held, left - freed)
            if is_counted:
                counted.append(
                    Counted(
                        "key" if held.is_of_key else "account",
                        held.measure,
                        held.number,
                        share.name.start,
                        int(share.lease.life or 0),
                        share.turn,
                        amount,
                    )
                )
            if share.lease.is_tight:
                self._shares.report_soon(share)
        if counted:
            event = msgspec.structs.replace(event, counted=tuple(counted), counted_by=self._shares.worker)
        self._record(event)

    def close(self) -> None:
        """The request has ended. Give back what is left of its reservations."""
        for share, _, left in self._parts:
            if share.kind == "r" or not left:
                continue
            share.settle(left, 0)
            if share.lease.is_tight:
                self._shares.report_soon(share)
        self._parts.clear()

    def withdraw(self) -> None:
        """The request is not made."""
        for share, _, left in self._parts:
            share.give_back(left)
            if share.lease.is_tight:
                self._shares.report_soon(share)
        self._parts.clear()


class Admitter:
    """Decides for each request."""

    def __init__(self, shares: Shares, *, allows_without_redis: bool) -> None:
        """
        Args:
            shares: of the worker.
            allows_without_redis: whether a request passes whose limits nobody can judge.
        """
        self._shares = shares
        self._allows = allows_without_redis

    async def admit(self, admission: Admission, needs: Sequence[Need], *, queue: float = 0.0) -> None:
        """Reserve in all limits, or in none.

        Args:
            admission: of the request; it notes what was reserved.
            needs: what the request may use of each limit.
            queue: for how many seconds it may wait for a place under `concurrency`.

        Raises:
            LimitExceeded: a limit has no room for it.
            LimitsUnknown: a limit cannot be judged at the moment.
        """
        shares, short = self._shares, []
        clock, now = shares.clock(), shares.now()
        try:
            for need in needs:
                share = shares.share_of(need.held, now)
                if share.free(clock) >= need.amount and not share.waiting:
                    share.reserve(need.amount)
                    admission.add(share, need)
                elif not need.held.is_enforced:
                    await self._observe(admission, share, need)
                else:
                    short.append((share, need))
            # Places first: a request that waits for one reserves nothing else meanwhile.
            for share, need in sorted(short, key=lambda one: one[1].held.measure is not Measure.CONCURRENCY):
                await self._obtain(share, need, queue)
                admission.add(share, need)
        except TimeZoneUnknown:
            admission.withdraw()
            raise LimitsUnknown from None
        except BaseException:
            admission.withdraw()
            raise

    async def _observe(self, admission: Admission, share: Share, need: Need) -> None:
        """Reserve for a request that passes whatever is left."""
        if share.kind == "r":
            return
        if not share.lease.life:
            # What is used before Redis knows this share is counted late, by ingest.
            async with share.lock:
                with suppress(LimitsUnreachable):
                    await self._shares.ask(share, 0)
        share.reserve(need.amount)
        admission.add(share, need)

    async def _obtain(self, share: Share, need: Need, queue: float) -> None:
        if share.held.measure is not Measure.CONCURRENCY or not queue:
            await self._reserve(share, need)
            return
        await self._queue(share, need, queue)

    async def _queue(self, share: Share, need: Need, queue: float) -> None:
        """Wait for a place, behind those that came earlier."""
        loop = asyncio.get_running_loop()
        until = loop.time() + queue
        turn = loop.create_future()
        share.waiting.append(turn)
        try:
            while True:
                if share.waiting[0] is turn:
                    try:
                        await self._reserve(share, need)
                    except LimitExceeded:
                        if loop.time() >= until:
                            raise
                    else:
                        return
                elif loop.time() >= until:
                    raise self._exceeded(share, _PLACE_RETRY)
                await asyncio.wait([turn], timeout=min(_PLACE_PAUSE, max(until - loop.time(), 0.001)))
                if turn.done():
                    follower, turn = turn, loop.create_future()
                    share.waiting[share.waiting.index(follower)] = turn
        finally:
            share.waiting.remove(turn)
            if share.waiting and not share.waiting[0].done():
                share.waiting[0].set_result(None)

    async def _reserve(self, share: Share, need: Need) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            async with share.lock:
                if share.free(self._shares.clock()) >= need.amount:
                    share.reserve(need.amount)
                    return
                try:
                    verdict, wait = await self._shares.ask(share, need.amount)
                except LimitsUnreachable:
                    if not self._allows:
                        raise LimitsUnknown from None
                    share.reserve(need.amount)
                    return
                if verdict is Verdict.GRANTED:
                    share.reserve(need.amount)
                    return
            waited = loop.time() - began
            if verdict is Verdict.REFUSED:
                raise self._exceeded(share, wait)
            if verdict is Verdict.UNKNOWN and waited > _UNKNOWN_WAIT:
                if not self._allows:
                    raise LimitsUnknown
                share.reserve(need.amount)
                return
            if verdict is Verdict.WAIT and waited > _RECALL_WAIT:
                raise LimitsUnknown
            if verdict in {Verdict.UNKNOWN, Verdict.WAIT}:
                await asyncio.sleep(_PAUSE)

    def _exceeded(self, share: Share, wait: float) -> LimitExceeded:
        held = share.held
        counts = held.limit.counts
        whose = "access key" if held.is_of_key else "account"
        if held.measure is Measure.CONCURRENCY:
            text = f"This {whose} has as many requests at one time as its limit allows."
            return LimitExceeded(text, retry_after=_PLACE_RETRY, counts=counts)
        text = f"This {whose} has reached its limit on {held.measure} {_PERIODS[held.limit.period]}"
        if share.kind == "r":
            text = f"{text}. It lets requests through again in {wait:.1f} s."
            return LimitExceeded(text, retry_after=max(wait, 0.001), counts=counts)
        text = f"{text}, or the request may use more than is left of it."
        if share.end == NEVER:
            return LimitExceeded(text, counts=counts)
        reset = datetime.fromtimestamp(share.end // _SECOND, UTC).isoformat().replace("+00:00", "Z")
        wait = max((share.end - self._shares.now()) / _SECOND, 1)
        return LimitExceeded(f"{text} It resets at {reset}.", retry_after=math.ceil(wait), counts=counts)
