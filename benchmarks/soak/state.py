"""What the parts of a soak share: accounts, access keys, counts, and the end of the soak."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

import aiohttp

# So many deleted access keys are remembered and tried again.
GRAVES: Final = 300


@dataclass(eq=False)
class Key:
    """An access key and its fate. Times are those of time.monotonic()."""

    id: str
    token: str
    is_live: bool = True
    # When a write began that may disable or delete it.
    ended_at: float | None = None
    # When its deletion was answered with the word that all workers have applied it.
    buried_at: float | None = None


@dataclass(eq=False)
class Tenant:
    """An account, and the objects that the soak has made in it."""

    id: str
    api_key: str
    provider_key: str = ""
    configuration: str = ""
    keys: list[Key] = field(default_factory=list)


@dataclass
class Tally:
    """The counts of a soak, and the promises that it found broken."""

    statuses: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    # Request IDs of answers that were read to their end.
    answered: set[str] = field(default_factory=set)
    graves_visited: int = 0
    unwaited_deletions: int = 0
    waited_deletions: int = 0
    broken: list[str] = field(default_factory=list)


class SoakState:
    """The state of one soak. All of its parts run in one event loop and change it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.tally = Tally()
        self.tenants: list[Tenant] = []
        # Deleted access keys, the newest last.
        self.graves: deque[Key] = deque(maxlen=GRAVES)
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]  # set by Soak.run
        # True once writers, callers and faults must stop.
        self.is_over = False
