"""The order in which one request tries the keys of a step that does not take them as it lists them.

Source: contract, section 8; docs/decisions/0034-key-selection.md.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from gateway_core.plans import Attempt, Plan, Strategy

# One process needs no secret to spread requests, and nobody gains by guessing.
_random: Final = random.Random().random  # noqa: S311


def arranged(
    plan: Plan,
    *,
    sticks_to: Callable[[], tuple[str, str | None]],
    busy: Mapping[str, int],
    chance: Callable[[], float] = _random,
) -> Sequence[Attempt]:
    """The attempts of a plan in the order of one request.

    Args:
        plan: with or without groups.
        sticks_to: called for `sticky` alone: what the request belongs to, as text, and the provider key that it has to
            begin with; None if any may begin.
        busy: how many attempts are under way with a provider key.
        chance: numbers from 0 up to 1.
    """
    if not plan.groups:
        return plan.attempts
    attempts = list(plan.attempts)
    for start, end, strategy in plan.groups:
        members = attempts[start:end]
        if strategy is Strategy.WEIGHTED:
            # Each waits for a time at random, the shorter on average the greater its weight: the first is drawn by the
            # weights, and so is each that follows among those that are left (Efraimidis and Spirakis, 2006).
            waits = [-math.log(1.0 - chance()) / member.weight for member in members]
            members = [members[place] for place in sorted(range(len(members)), key=waits.__getitem__)]
        elif strategy is Strategy.LEAST_BUSY:
            members.sort(key=lambda member: busy.get(member.provider_key or "", 0))
        elif strategy is Strategy.STICKY:
            text, first = sticks_to()
            members.sort(key=lambda member: (member.provider_key != first, _rank(text, member.provider_key or "")))
        attempts[start:end] = members
    return attempts


def _rank(text: str, key: str) -> bytes:
    # Each text has an order of the keys of its own, the same in every worker. Where a key comes or goes, only those
    # texts move that it was first for (rendezvous hashing).
    return blake2b(f"{key}\n{text}".encode(errors="surrogatepass"), digest_size=8).digest()
