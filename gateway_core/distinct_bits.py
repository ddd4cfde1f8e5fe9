"""Random bits that make a name distinct. They are no secret: whoever has seen many can say the next.

A request needs two such names. The system's own random numbers cost a call of the system each.
"""

import os
import random

_random = random.Random()  # noqa: S311 -- nothing is protected by it
os.register_at_fork(after_in_child=_random.seed)


def distinct_bits(count: int) -> int:
    """A number of so many bits, which no process on any machine makes twice but by chance."""
    return _random.getrandbits(count)
