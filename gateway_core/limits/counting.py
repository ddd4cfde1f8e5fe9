"""The count of one limit in one window, and how workers share what is left of it.

Each worker has a **ceiling**: how much it may have used and reserved in this window, counted since it began. All
ceilings together, and what usage of earlier workers is known, stay within the amount; so each worker reserves from its
own memory and the limit holds. A worker reports how much it has used and reserved, and asks for a higher ceiling, or
gives back what it does not need. It sends totals, never differences: an answer that is lost costs nothing, and a call
that arrives late is refused by its number.

Ingest **confirms** what workers used: it adds the true amount to the base, and notes how much of the worker's own count
that was. So nothing counts twice, and what a worker estimated is corrected.

A worker that is silent for LIFE loses what it has not used. What it has used stays counted until ingest confirms it.

Source: docs/decisions/0120-limits.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

# Microseconds after which a silent worker loses what it holds.
LIFE: Final = 5_000_000
# How often a worker reports, in microseconds.
TICK: Final = 500_000
# After this long a worker that Redis has not heard of is forgotten; a worker that was away for half of it begins again.
FORGOTTEN: Final = 600_000_000
# While a worker waits for what others hold ahead, none of them gets anything ahead.
RECALL: Final = 2 * TICK
# Of what is left, a worker gets at most one part of so many ahead.
SHARE: Final = 8


class Verdict(IntEnum):
    """What Redis answers to a worker that needs room."""

    REFUSED = 0
    GRANTED = 1
    # Others hold enough ahead, and give it back with their next reports.
    WAIT = 2
    # The call is older than one that was taken.
    STALE = 3
    # The count was begun again since the worker's last call; its own totals begin at zero.
    BEGUN_AGAIN = 4
    # Redis does not know what was used in this window. The control plane is asked for it.
    UNKNOWN = 5


class Ask(NamedTuple):
    """A worker's call. Amounts are in the limit's unit."""

    # Higher with each call.
    number: int
    # All that it has used in this window, and what its requests in flight have reserved.
    used: int
    reserved: int
    # What it goes on to hold ahead, within its last ceiling.
    keep: int = 0
    # What a new request needs, 0 for a report; and how much it would like to hold ahead beside that.
    need: int = 0
    ahead: int = 0


class Answer(NamedTuple):
    """The verdict, the worker's new ceiling, and whether another worker waits for what this one holds ahead."""

    verdict: Verdict
    ceiling: int
    is_recalled: bool


@dataclass
class Held:
    """What Redis knows of one worker. `until`: when it loses what it has not used, in microseconds since 1970."""

    number: int
    ceiling: int
    used: int
    reserved: int
    until: int


@dataclass
class Count:
    """One limit in one window."""

    # What ingest has confirmed.
    base: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    # How much of each worker's own count is in the base.
    confirmed: dict[str, int] = field(default_factory=dict)
    recalled_until: int = 0

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Count":
        """Read a count as Redis holds it."""
        found = cls(base=int(fields.get("base", 0)), recalled_until=int(fields.get("recall", 0)))
        for name, value in fields.items():
            kind, _, worker = name.partition(":")
            if kind == "w":
                found.held[worker] = Held(*map(int, value.split(" ")))
            elif kind == "k":
                found.confirmed[worker] = int(value)
        return found

    def ask(self, worker: str, ask: Ask, *, amount: int, now: int, is_sparing: bool = False) -> Answer:
        """Take a worker's totals, and give it a ceiling.

        Args:
            worker: its ID.
            ask: the call.
            amount: of the limit.
            now: the clock of Redis.
            is_sparing: whether Redis itself was silent a moment ago, so that a silent worker proves nothing.
        """
        known = self.held.get(worker)
        if known is not None and ask.number <= known.number:
            return Answer(Verdict.STALE, known.ceiling, is_recalled=False)
        if not is_sparing:
            self._forget_silent(worker, now)
        others = {name: one for name, one in self.held.items() if name != worker}
        taken = self.base + sum(self._open(name, one.ceiling) for name, one in others.items())
        ceiling = ask.used + ask.reserved + ask.keep
        room = amount - taken - self._open(worker, ceiling)
        verdict = Verdict.GRANTED
        if ask.need and ask.need > room:
            spare = sum(one.ceiling - one.used - one.reserved for one in others.values())
            verdict = Verdict.REFUSED if ask.need > room + spare else Verdict.WAIT
            if verdict is Verdict.WAIT:
                self.recalled_until = now + RECALL
        else:
            ceiling += ask.need
            if now >= self.recalled_until:
                ceiling += min(ask.ahead, max(room - ask.need, 0) // SHARE)
        self.held[worker] = Held(ask.number, ceiling, ask.used, ask.reserved, now + LIFE)
        return Answer(verdict, ceiling, is_recalled=now < self.recalled_until or room < 0)

    def confirm(self, worker: str, *, true: int, counted: int) -> None:
        """Ingest has written usage.

        Args:
            worker: the one that counted it.
            true: what it was.
            counted: what the worker counted for it.
        """
        self.base += true
        self.confirmed[worker] = self.confirmed.get(worker, 0) + counted

    def used(self) -> int:
        """What has been used, as far as it was reported."""
        return self.base + sum(self._open(name, one.used) for name, one in self.held.items())

    def reserved(self, now: int) -> int:
        """What requests in flight have reserved."""
        return sum(one.reserved for one in self.held.values() if one.until > now)

    def _open(self, worker: str, total: int) -> int:
        """As much of a worker's total as is not confirmed."""
        return max(total - self.confirmed.get(worker, 0), 0)

    def _forget_silent(self, asking: str, now: int) -> None:
        for name in [name for name, one in self.held.items() if name != asking and one.until <= now]:
            one = self.held[name]
            one.ceiling, one.reserved = one.used, 0
            if now >= one.until + FORGOTTEN and not self._open(name, one.used):
                del self.held[name]
                self.confirmed.pop(name, None)
