"""Processes that die while they ingest usage: `python -m tests.faults.ingesting <where>`.

Each kills itself, as nothing else can at that very place: `before the write`, when events have been read from Redis;
`in the write`, when they stand in a transaction that is not committed; `after the write`, when they are committed and
Redis does not know it yet.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Never

import django

django.setup()

from gateway_core.usage import UsageEvent  # noqa: E402 -- Django has to be set up first
from snapshots.client import patient_store  # noqa: E402
from usage import ledger  # noqa: E402
from usage.ingest import Ingest  # noqa: E402


def die(*_: object) -> Never:
    """End at once, with nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class DiesBefore(Ingest):
    """Has read, and writes nothing."""

    def _write(self, batches: Mapping[bytes, Sequence[UsageEvent]]) -> int:
        die()


class DiesAfter(Ingest):
    """Has committed, and acknowledges nothing."""

    def _acknowledge(self, entries: Sequence[bytes]) -> None:
        die()


if __name__ == "__main__":
    where = sys.argv[1]
    if where == "in the write":
        # The last step of the transaction: everything else is in it by then.
        ledger.charge = die
    kind = {"before the write": DiesBefore, "in the write": Ingest, "after the write": DiesAfter}[where]
    kind(patient_store().redis).run(seconds=60)
