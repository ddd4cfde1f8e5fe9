"""Which keys are not asked for a while: what a worker has learnt of each key and model from its own attempts.

A key and model is in one of these states:

    state     meaning                                         next
    asked     its attempts are counted                        cooling (see below)
    cooling   passed over until a moment                      probed (the moment has passed), asked (rotated, answered)
    probed    one attempt is under way, others pass it over   asked (it answered), cooling (it failed)

It begins to cool when the upstream refuses the key (for 5 minutes), when it says 429 (until its `Retry-After`), and
when at least half of at least ten attempts within 30 seconds failed (for 10 seconds). A request does not pass over its
last attempt, so one is also made with a key that cools; if it answers, the key is asked again.

No I/O, and no clock but the one that is given. Every attempt is begun by `check` and ended by one of `answered`,
`failed` and `abandoned`.

Source: docs/decisions/0059-cooling.md.
"""

from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from gateway_core.traces import CoolingCause

REFUSED_SECONDS: Final = 300.0
FAILING_SECONDS: Final = 10.0
# Of a 429 that does not say how long to wait, and the longest wait that is obeyed.
UNSAID_SECONDS: Final = 5.0
LONGEST_WAIT: Final = 300.0
# The window of the rate, in slices: the oldest of them leaves as a whole.
WINDOW_SECONDS: Final = 30.0
_SLICES: Final = 6
_SLICE_SECONDS: Final = WINDOW_SECONDS / _SLICES
LEAST_ATTEMPTS: Final = 10
# Keys and models of one account, and accounts. Beyond, the oldest is forgotten: it is asked as if nothing were known.
MOST_PLACES: Final = 256
MOST_RESPONSES: Final = 1000
MOST_ACCOUNTS: Final = 10_000
_REFUSALS: Final = frozenset({401, 402, 403})
_RATE_LIMITED: Final = 429

Clock = Callable[[], float]


class Place(NamedTuple):
    """What is asked: a provider key, or a provider without one, and a model."""

    provider: str
    # `aigpk_…`; None for the operator's key, and where no key is shown.
    provider_key: str | None
    model: str


class Cooled(NamedTuple):
    """A key and model that is passed over."""

    cause: CoolingCause
    # By the given clock: since when, and until when it is passed over at the least.
    since: float
    until: float


class _Cooling:
    """What is known of a place that cools."""

    __slots__ = ("about", "begun", "cause", "probed_at", "since", "until")

    def __init__(self, cause: CoolingCause, about: Hashable, now: float) -> None:
        self.cause = cause
        # What was asked with: a rotated key is another one.
        self.about = about
        self.since = now
        # When it began to cool the last time. An answer to an attempt before that proves nothing.
        self.begun = now
        self.until = now
        # When the probe began that is under way.
        self.probed_at: float | None = None

    def is_passed_over(self, now: float) -> bool:
        return now < self.until or self.probed_at is not None


class _Slice:
    """The attempts of a few seconds."""

    __slots__ = ("failed", "number", "total")

    def __init__(self, number: int) -> None:
        self.number = number
        self.total = 0
        self.failed = 0


class AccountKeys:
    """The keys of one account: which of them cool, which are busy, and which made which response."""

    __slots__ = ("_clock", "_cooling", "_slices", "busy", "made_by")

    def __init__(self, clock: Clock) -> None:
        """
        Args:
            clock: seconds that never go back.
        """
        self._clock = clock
        self._cooling: dict[Place, _Cooling] = {}
        # The newest last; a place without an entry was not asked yet.
        self._slices: dict[Place, list[_Slice]] = {}
        # Attempts under way, by provider key; a key without any has no entry.
        self.busy: dict[str, int] = {}
        # The provider key that made a stored response, by the response's ID; of the newest.
        self.made_by: dict[bytes, str] = {}

    def enter(self, provider_key: str | None) -> None:
        """An attempt with this key is under way."""
        if provider_key is not None:
            self.busy[provider_key] = self.busy.get(provider_key, 0) + 1

    def leave(self, provider_key: str | None) -> None:
        """That attempt, with its answer, is over."""
        if provider_key is not None:
            left = self.busy.get(provider_key, 0) - 1
            if left > 0:
                self.busy[provider_key] = left
            else:
                self.busy.pop(provider_key, None)

    def remember(self, response: bytes, provider_key: str) -> None:
        """A response was made with this key: what follows on it belongs there."""
        self.made_by[response] = provider_key
        if len(self.made_by) > MOST_RESPONSES:
            del self.made_by[next(iter(self.made_by))]

    def check(self, place: Place, about: Hashable, began: float) -> Cooled | None:
        """Why a place is to be passed over; None if it may be asked.

        Args:
            place: of the attempt.
            about: what it would be asked with. A place that cooled with something else is asked.
            began: when the attempt begins, by the clock.
        """
        cooling = self._cooling.get(place)
        if cooling is None:
            return None
        if cooling.about != about:
            self._forget(place)
            return None
        if cooling.is_passed_over(began):
            return Cooled(cooling.cause, cooling.since, cooling.until)
        cooling.probed_at = began
        return None

    def answered(self, place: Place, began: float) -> None:
        """An attempt that began at this moment has an answer, or a refusal that is about the request alone."""
        cooling = self._cooling.get(place)
        if cooling is not None and began >= cooling.begun:
            self._forget(place)
        self._slice(place).total += 1

    def failed(self, place: Place, about: Hashable, *, means: int, wait: float | None) -> None:
        """An attempt failed.

        Args:
            place: of the attempt.
            about: what was asked with.
            means: the status that the answer means; 0 where there was none.
            wait: the seconds that the upstream asked to wait, if it did.
        """
        now = self._clock()
        newest = self._slice(place)
        newest.total += 1
        newest.failed += 1
        if means in _REFUSALS:
            self._cool(place, CoolingCause.KEY_REFUSED, about, REFUSED_SECONDS)
        elif means == _RATE_LIMITED:
            seconds = UNSAID_SECONDS if wait is None else min(wait, LONGEST_WAIT)
            self._cool(place, CoolingCause.RATE_LIMITED, about, seconds)
        elif self._fails(place, now) or self._has_cooled(place, now):
            self._cool(place, CoolingCause.FAILING, about, FAILING_SECONDS)

    def abandoned(self, place: Place, began: float) -> None:
        """An attempt that began at this moment ended without a result: the caller left, or it was not sent."""
        cooling = self._cooling.get(place)
        if cooling is not None and cooling.probed_at == began:
            cooling.probed_at = None

    @property
    def has_cooling(self) -> bool:
        """Whether any place may be passed over."""
        return bool(self._cooling)

    def cooling(self) -> Iterator[tuple[Place, Cooled]]:
        """The places that are passed over now, and since when."""
        now = self._clock()
        for place, cooling in self._cooling.items():
            if cooling.is_passed_over(now):
                yield place, Cooled(cooling.cause, cooling.since, cooling.until)

    def _has_cooled(self, place: Place, now: float) -> bool:
        cooling = self._cooling.get(place)
        return cooling is not None and now >= cooling.until

    def _cool(self, place: Place, cause: CoolingCause, about: Hashable, seconds: float) -> None:
        now = self._clock()
        cooling = self._cooling.get(place)
        # A short wait does not end a longer one.
        if cooling is None or cooling.about != about or (cooling.cause is not cause and cooling.until <= now + seconds):
            if len(self._cooling) >= MOST_PLACES and place not in self._cooling:
                del self._cooling[next(iter(self._cooling))]
            cooling = self._cooling[place] = _Cooling(cause, about, now)
        cooling.begun = now
        cooling.until = max(cooling.until, now + seconds)
        cooling.probed_at = None

    def _forget(self, place: Place) -> None:
        self._cooling.pop(place, None)
        self._slices.pop(place, None)

    def _slice(self, place: Place) -> _Slice:
        number = int(self._clock() // _SLICE_SECONDS)
        slices = self._slices.get(place)
        if slices is None:
            if len(self._slices) >= MOST_PLACES:
                del self._slices[next(iter(self._slices))]
            slices = self._slices[place] = []
        elif slices[-1].number == number:
            return slices[-1]
        slices.append(_Slice(number))
        if len(slices) > _SLICES:
            del slices[0]
        return slices[-1]

    def _fails(self, place: Place, now: float) -> bool:
        oldest = int(now // _SLICE_SECONDS) - _SLICES
        recent = [one for one in self._slices[place] if one.number > oldest]
        total = sum(one.total for one in recent)
        return total >= LEAST_ATTEMPTS and 2 * sum(one.failed for one in recent) >= total


class Cooling:
    """The keys of all accounts."""

    def __init__(self, clock: Clock) -> None:
        """
        Args:
            clock: seconds that never go back.
        """
        self.clock = clock
        self._accounts: dict[str, AccountKeys] = {}

    def of(self, account: str) -> AccountKeys:
        """The keys of an account, by its `ac_…` ID."""
        keys = self._accounts.get(account)
        if keys is None:
            if len(self._accounts) >= MOST_ACCOUNTS:
                del self._accounts[next(iter(self._accounts))]
            keys = self._accounts[account] = AccountKeys(self.clock)
        return keys

    def cooling(self, *, most_of_an_account: int = MOST_PLACES) -> Iterator[tuple[str, Place, Cooled]]:
        """What is passed over now, with its account.

        Args:
            most_of_an_account: so many of each account.
        """
        for account, keys in self._accounts.items():
            if keys.has_cooling:
                for place, cooled in islice(keys.cooling(), most_of_an_account):
                    yield account, place, cooled
