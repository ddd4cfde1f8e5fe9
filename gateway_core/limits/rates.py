"""Requests a minute: the generic cell rate algorithm, with a burst of the whole amount.

One number is the state: when a bucket that is filled up to now would be empty again. A worker takes a few requests
ahead and gives back those that it does not use within a second. So in any time t no more than
`amount + t × amount / 60 s` and those few are let through.

Source: ITU-T I.371, Annex A; docs/decisions/0120-limits.md.
"""

from typing import Final, NamedTuple

from gateway_core.limits.counting import SHARE

_MINUTE: Final = 60_000_000


class Taken(NamedTuple):
    """The answer for requests that a worker wants to let through."""

    # The bucket's new state, in microseconds since 1970.
    empty_at: int
    # How many it got: what it needed, and some ahead; or none.
    granted: int
    # Where it got none: how many microseconds later it may get them.
    wait: int


def interval(amount: int) -> int:
    """The microseconds between two requests of `amount` a minute."""
    return _MINUTE // amount


def take(empty_at: int, now: int, amount: int, *, need: int, ahead: int, returned: int) -> Taken:
    """Take requests out of a bucket.

    Args:
        empty_at: the bucket's state.
        now: microseconds since 1970.
        amount: requests a minute, up to MOST_REQUESTS_A_MINUTE.
        need: requests that wait to be let through.
        ahead: how many more the worker would like to have.
        returned: requests that it took before and does not use.
    """
    each = interval(amount)
    start = max(empty_at - returned * each, now)
    room = (now + amount * each - start) // each
    if need > room:
        return Taken(start, 0, start + need * each - now - amount * each)
    count = need + min(ahead, max(room - need, 0) // SHARE)
    return Taken(start + count * each, count, 0)


def in_use(empty_at: int, now: int, amount: int) -> int:
    """How many requests of the burst are used up at a moment."""
    return -(-max(empty_at - now, 0) // interval(amount))
