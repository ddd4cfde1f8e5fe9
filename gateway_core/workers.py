"""What a data-plane worker tells of itself, for the control plane to read: `{gw}:worker:<id>`, field `report`.

The field is an envelope with the purpose WORKER, bound to its place, its version the time of writing in microseconds.
The key expires when its worker falls silent, and is removed when it ends cleanly.
"""

from typing import Annotated, Final

import msgspec

from gateway_core.snapshot import Keys

REPORT_FIELD: Final = "report"
REPORT_EXPIRES_SECONDS: Final = 60

_Text = Annotated[str, msgspec.Meta(max_length=512)]


class Refusal(msgspec.Struct, frozen=True, rename="camel"):
    """A document that a worker did not take: where it stood and why. Never what it held."""

    location: _Text
    reason: _Text
    # Microseconds since 1970.
    refused_at: int


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A worker's state. Times are microseconds since 1970."""

    id: _Text
    host: _Text
    process: int
    started_at: int
    heartbeat_at: int
    # The life of Redis that it follows; None before the first contact.
    epoch: _Text | None = None
    # The number of the newest change that it has passed, and when that was.
    position: int = 0
    applied_at: int = 0
    is_in_sync: bool = False
    accounts: int = 0
    requests: int = 0
    refusals: int = 0
    last_refusals: Annotated[tuple[Refusal, ...], msgspec.Meta(max_length=16)] = ()


def report_location(keys: Keys, worker: str) -> str:
    """The place that a worker's report is bound to."""
    return f"{keys.worker(worker)}\n{REPORT_FIELD}"
