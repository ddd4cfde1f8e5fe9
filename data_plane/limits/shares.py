"""The worker's shares of all counts that its requests meet: asks Redis for more, and reports what was used.

One task reports all shares that have anything to report, each half second, in one call of a script. A request makes a
call of its own only where its share is too small.

Source: docs/decisions/0120-limits.md.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from data_plane.limits.held_limits import HeldLimit
from data_plane.tasks import end
from gateway_core.limits import names
from gateway_core.limits.counting import TICK, Answer, Ask, Verdict
from gateway_core.limits.leases import Lease
from gateway_core.limits.limit import Measure
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import NEVER, Window, window_at
from gateway_core.snapshot import Keys

log = structlog.get_logger("data_plane.limits.shares")

_SECOND: Final = 1_000_000
# What was taken of a rate and is not used within this long is given back.
_RATE_GOOD_FOR: Final = _SECOND
# How many seconds counts outlive their window; how long those without an end are kept.
_AFTERWARDS: Final = 2 * 86_400
_KEPT: Final = 31 * 86_400
_SHARES_AT_ONCE: Final = 200


class LimitsUnreachable(Exception):
    """Redis does not answer, or holds nothing yet."""


class Share:
    """What this worker has of one count."""

    __slots__ = (
        *("_rate_good_until", "_taken", "begin", "end", "held", "is_open", "is_rate", "key", "kind", "left"),
        *("lease", "lock", "name", "turn", "waiting"),
    )

    def __init__(self, held: HeldLimit, name: CountName, key: str, window: Window, turn: int) -> None:
        self.held = held
        self.is_rate = held.limit.is_rate
        # `r` a rate, `s` requests at one time, `c` any other count.
        self.kind = "r" if self.is_rate else "s" if held.measure is Measure.CONCURRENCY else "c"
        self.name = name
        self.key = key
        self.end = window.end
        # Whether it is reported. One that was not used for minutes is forgotten, and another one takes its place.
        self.is_open = True
        # Since when Redis must have counted for it to begin at zero; None: it never may.
        self.begin: int | None = None
        # Each lease of this worker has another one, so that its totals in Redis are its own.
        self.turn = turn
        self.lease = Lease()
        # One call at a time, so that each answer belongs to the totals of its call.
        self.lock = asyncio.Lock()
        # What was neither used nor reserved at the last answer; None before there was one.
        self.left: int | None = None
        # Requests that wait for a place, in the order in which they came.
        self.waiting: list[asyncio.Future[None]] = []
        # Of a rate: how many requests may pass, and until when.
        self._taken = 0
        self._rate_good_until = 0

    def free(self, now: int) -> int:
        """What may be reserved without asking."""
        if self.is_rate:
            return self._taken if now < self._rate_good_until else 0
        return self.lease.free(now)

    def reserve(self, amount: int) -> None:
        """A request will use so much at most."""
        if self.is_rate:
            self._taken -= amount
        else:
            self.lease.reserve(amount)

    def settle(self, reserved: int, used: int) -> None:
        """So much is not reserved any more, and so much was used."""
        if not self.is_rate:
            self.lease.settle(reserved, used)
        if self.waiting and not self.waiting[0].done():
            self.waiting[0].set_result(None)

    def give_back(self, reserved: int) -> None:
        """A request that had reserved so much is not made."""
        if self.is_rate:
            self._taken += reserved
        self.settle(reserved, 0)

    def ask(self, now: int, need: int, *, is_last: bool = False) -> Ask:
        """The next call."""
        if not self.is_rate:
            return self.lease.ask(now, need=need, is_last=is_last)
        unused, self._taken = max(self._taken, 0), 0
        return Ask(0, 0, 0, unused, need, 4 * need)

    def take(self, asked_at: int, answer: Any) -> Verdict:
        """Take what Redis answered."""
        verdict, ceiling, life, more, self.left = answer
        found = Verdict(verdict)
        if not self.is_rate:
            self.lease.take(asked_at, life.decode(), Answer(found, ceiling, is_recalled=bool(more)))
        elif found is Verdict.GRANTED:
            self._taken += ceiling
            self._rate_good_until = asked_at + _RATE_GOOD_FOR
        return found

    def has_news(self, now: int) -> bool:
        """Whether Redis does not know all of this share, or something has to be kept alive or given back."""
        if self.is_rate:
            return self._taken > 0 and now >= self._rate_good_until
        return self.lease.has_news


class Shares:
    """All shares of this worker. Times are microseconds: `clock` never goes back, `now` is what Redis takes it for."""

    def __init__(self, redis: "Redis", keys: Keys, *, worker: str) -> None:
        """
        Args:
            redis: a client of its own, with a time-out on its socket and no retries; closed with it.
            keys: of the deployment.
            worker: this worker's ID.
        """
        self.worker = worker
        self._redis = redis
        self._keys = keys
        self._script = redis.register_script(names.script("ask"))
        self._shares: dict[CountName, Share] = {}
        # How far Redis's clock is ahead of this machine's.
        self._ahead = 0
        self._turns = 0
        self._is_closing = False
        self._is_due = asyncio.Event()
        self._due: set[Share] = set()
        self._task: asyncio.Task[None] | None = None
        # Calls of the script until now.
        self.calls = 0

    def start(self) -> None:
        """Begin to report."""
        self._task = asyncio.create_task(self._report_on())

    async def close(self) -> None:
        """Give back what is held, and report what was used."""
        if self._task is not None:
            await end([self._task])
        self._is_closing = True
        with suppress(LimitsUnreachable):
            await self._report(list(self._with_news()))
        await self._redis.aclose()

    @staticmethod
    def clock() -> int:
        """A clock that never goes back."""
        return time.monotonic_ns() // 1000

    def now(self) -> int:
        """The time of Redis, about, in microseconds since 1970."""
        return time.time_ns() // 1000 + self._ahead

    def share_of(self, held: HeldLimit, now: int) -> Share:
        """The share of a limit's present window."""
        share = held.share
        if share is None or now >= share.end or not share.is_open:
            share = held.share = self._opened(held, now)
        return share

    def _opened(self, held: HeldLimit, now: int) -> Share:
        window = window_at(held.limit, now)
        name = CountName(held.owner, held.identity, window.start // _SECOND)
        share = self._shares.get(name)
        if share is None:
            share = Share(held, name, names.count(self._keys, name), window, self._next_turn())
            self._shares[name] = share
        # The amount and the mode may be others now.
        share.held = held
        share.begin = held.begin(window, now)
        return share

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    async def ask(self, share: Share, need: int) -> tuple[Verdict, float]:
        """Ask for what a request needs. The share's lock is held.

        Returns:
            The verdict, and of a rate that refuses: after how many seconds it lets the request through.

        Raises:
            LimitsUnreachable: Redis does not answer.
        """
        asked_at = self.clock()
        if share.lease.was_away(asked_at):
            share.lease.begin_again()
            share.turn = self._next_turn()
        answers = await self._call([(share, share.ask(asked_at, need))])
        verdict = share.take(asked_at, answers[0])
        return verdict, answers[0][3] / _SECOND

    def report_soon(self, share: Share) -> None:
        """Others may need at once what was settled in this share."""
        self._due.add(share)
        self._is_due.set()

    async def _call(self, asked: Sequence[tuple[Share, Ask]]) -> list[Any]:
        now = self.now()
        arguments: list[Any] = [self._keys.epoch]
        for share, ask in asked:
            kept = _KEPT if share.end == NEVER else max(share.end - now, 0) // _SECOND + _AFTERWARDS
            begin = "" if share.begin is None else share.begin
            amount = share.held.limit.amount_at(now)
            worker = f"{self.worker}.{share.turn}"
            arguments += (worker, share.kind, str(share.name), begin, kept, share.lease.life, *ask, amount)
        self.calls += 1
        try:
            answers: Any = await self._script(
                keys=[
                    names.marker(self._keys),
                    names.wanted(self._keys),
                    *(share.key for share, _ in asked),
                ],
                args=arguments,
            )
        except (RedisError, OSError, TimeoutError) as fault:
            raise LimitsUnreachable(type(fault).__name__) from None
        if not answers:
            raise LimitsUnreachable("there is no epoch")
        self._ahead = answers[0] - time.time_ns() // 1000
        return list(answers[1:])

    async def _report_on(self) -> None:
        is_absent = False
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_due.wait(), TICK / _SECOND)
            due, self._due = self._due, set()
            try:
                if self._is_due.is_set():
                    self._is_due.clear()
                    await self._report(list(due))
                else:
                    await self._report(list(self._with_news()))
                is_absent = False
            except LimitsUnreachable as fault:
                if not is_absent:
                    log.warning("limits cannot be reported to Redis", reason=str(fault))
                is_absent = True
            except Exception:
                log.exception("limits were not reported, by an unforeseen error")

    def _with_news(self) -> Iterator[Share]:
        clock, now = self.clock(), self.now()
        for name, share in list(self._shares.items()):
            if share.has_news(clock):
                yield share
            elif not share.waiting and not share.lock.locked() and (now >= share.end or share.lease.was_away(clock)):
                share.is_open = False
                del self._shares[name]

    async def _report(self, shares: list[Share]) -> None:
        """Report shares, and give back at once what others wait for."""
        for at in range(0, len(shares), _SHARES_AT_ONCE):
            recalled = await self._report_together(shares[at : at + _SHARES_AT_ONCE])
            if recalled:
                await self._report_together(recalled)

    async def _report_together(self, shares: Sequence[Share]) -> list[Share]:
        """One call. Returns the shares of which others wait for something."""
        # A share that a request asks for at this moment reports by that call.
        free = [share for share in shares if not share.lock.locked()]
        if not free:
            return []
        for share in free:
            await share.lock.acquire()
        try:
            clock = self.clock()
            asked = [(share, share.ask(clock, 0, is_last=self._is_closing)) for share in free]
            for (share, _), answer in zip(asked, await self._call(asked), strict=True):
                share.take(clock, answer)
        finally:
            for share in free:
                share.lock.release()
        clock = self.clock()
        return [share for share in free if share.lease.is_recalled and share.lease.free(clock) > 0]
