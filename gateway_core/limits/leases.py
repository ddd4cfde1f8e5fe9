"""A worker's share of one count: what it may still reserve without asking, what is reserved, and what it has used.

A request reserves before anything is sent, and settles when its answer has ended. Both change numbers in memory alone.
A lease is good for a little less than LIFE after the worker sent its last call. After that only what is reserved counts
on, because Redis may have given the rest to others.

Source: docs/decisions/0120-limits.md.
"""

from typing import Final

from gateway_core.limits.counting import FORGOTTEN, LIFE, TICK, Answer, Ask, Verdict

# How long after a call a worker may use what it got. A clock may run faster than that of Redis by a tenth.
GOOD_FOR: Final = LIFE - TICK
# How many ticks of the present use a worker would like to hold ahead.
_TICKS_AHEAD: Final = 4


class Lease:
    """One worker's share of one count. Times are microseconds of a clock that never goes back."""

    __slots__ = (
        "_asked",
        "_number",
        "_recently_reserved",
        "_smoothed",
        "ceiling",
        "good_until",
        "is_recalled",
        "is_tight",
        "life",
        "reserved",
        "used",
    )

    def __init__(self) -> None:
        # The life of the count in Redis that this share belongs to; "" before the first answer.
        self.life = ""
        self.ceiling = self.used = self.reserved = 0
        self.good_until = 0
        # Whether another worker waits for what this one holds ahead.
        self.is_recalled = False
        # Whether it got nothing ahead, so that others may need at once what is settled here.
        self.is_tight = False
        self._number = 0
        self._asked = Ask(0, 0, 0)
        # What was reserved since the last report, and about how much that is in a tick.
        self._recently_reserved = 0
        self._smoothed = 0.0

    def free(self, now: int) -> int:
        """What may be reserved without asking."""
        return self.ceiling - self.used - self.reserved if now < self.good_until else 0

    def reserve(self, amount: int) -> None:
        """A request will use so much at most. The caller has seen that it is free, or that the limit only observes."""
        self.reserved += amount
        self._recently_reserved += amount

    def settle(self, reserved: int, used: int) -> None:
        """So much is not reserved any more, and so much was used."""
        self.reserved -= reserved
        self.used += used

    def ask(self, now: int, *, need: int = 0, is_last: bool = False) -> Ask:
        """The next call. Until it is answered nothing but what it keeps is free.

        Args:
            now: when the call is sent.
            need: what a request needs, for which not enough is free; 0 for a report.
            is_last: whether nothing more will be asked for, so that nothing is held ahead.
        """
        if not need:
            self._smoothed = max(float(self._recently_reserved), (self._smoothed + self._recently_reserved) / 2)
            self._recently_reserved = 0
        if not self.life:
            # Ingest adds what was used before the first answer.
            self.used = 0
        ahead = 0 if is_last else int(max(self._smoothed, self._recently_reserved, need) * _TICKS_AHEAD)
        keep = 0 if need or self.is_recalled else min(max(self.free(now), 0), ahead)
        self.ceiling = self.used + self.reserved + keep
        self._number += 1
        self._asked = Ask(self._number, self.used, self.reserved, keep, need, max(ahead - keep, 0))
        return self._asked

    def take(self, asked_at: int, life: str, answer: Answer) -> None:
        """Take the answer to the last call.

        Args:
            asked_at: when the call was sent.
            life: of the count that answered.
            answer: of Redis.
        """
        if answer.verdict is Verdict.BEGUN_AGAIN:
            # What was used before is in the usage that the count began with.
            self.used = 0
            self.ceiling = self.reserved
            self.life = life
            return
        if answer.verdict in {Verdict.STALE, Verdict.UNKNOWN}:
            return
        self.life = life
        self.ceiling = answer.ceiling
        self.good_until = asked_at + GOOD_FOR
        self.is_recalled = answer.is_recalled
        asked = self._asked
        got = answer.ceiling - asked.used - asked.reserved - asked.keep
        self.is_tight = answer.is_recalled or (asked.ahead > 0 and got <= asked.need)

    @property
    def has_news(self) -> bool:
        """Whether Redis does not know all of it, or something of it has to be kept alive or given back."""
        asked = self._asked
        return (
            self.reserved > 0
            or self.ceiling > self.used + self.reserved
            or (asked.used, asked.reserved) != (self.used, self.reserved)
        )

    def was_away(self, now: int) -> bool:
        """Whether Redis did not hear of this lease for so long that it may have forgotten its totals.

        The worker then goes on under another name in this count, with totals that begin at zero.
        """
        return bool(self.good_until) and now - self.good_until > FORGOTTEN // 2

    def begin_again(self) -> None:
        """Keep what is reserved alone. What was used before is on its way through ingest."""
        self.life = ""
        self.used = self.good_until = 0
        self.ceiling = self.reserved
