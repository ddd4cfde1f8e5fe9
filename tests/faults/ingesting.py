"""Processes that die while they ingest usage: `python -m tests.faults.ingesting <where>`.

Each kills itself, as nothing else can at that very place: `before the write`, when events have been read from Redis;
`in the write`, when they stand in a transaction that is not committed; `after the write`, when they are committed and
Redis does not know it yet. With `stands still in the write` it stops there instead, and goes on when it is woken.
"""

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Never

import django

django.setup()

from gateway_core.usage_events import UsageEvent  # noqa: E402 -- Django has to be set up first
from snapshots.redis_client import patient_store  # noqa: E402
from usage import ledger  # noqa: E402
from usage.ingest import Ingest  # noqa: E402


def die(*_: object) -> Never:
    """End at once, with nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def die_charging(cents: Mapping[uuid.UUID, Decimal]) -> None:
    """In place of usage.ledger.charge, the last step of the transaction: all else is in it by then."""
    die(cents)


def stand_still_charging(cents: Mapping[uuid.UUID, Decimal]) -> None:
    """The same place, for a process that comes back."""
    print("standing still", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    _charge(cents)


_charge = ledger.charge


class DiesBefore(Ingest):
    """Has read, and writes nothing."""

    def _write(self, events: Sequence[UsageEvent]) -> int:
        die()


class DiesAfter(Ingest):
    """Has committed, and acknowledges nothing."""

    def _acknowledge(self, entries: Sequence[bytes]) -> None:
        die()


if __name__ == "__main__":
    where = sys.argv[1]
    if where == "in the write":
        ledger.charge = die_charging
    if where == "stands still in the write":
        ledger.charge = stand_still_charging
    kind = {"before the write": DiesBefore, "after the write": DiesAfter}.get(where, Ingest)
    kind(patient_store().redis).run(seconds=60)
