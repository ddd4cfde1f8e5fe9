"""What data-plane workers tell of themselves, for the control plane to read.

    {gw}:workers        HASH    a field for each worker process, by its ID: its report
    {gw}:acknowledged   STREAM  one entry, written anew with each report: it wakes who waits for reports, no more

A report is an envelope with the purpose WORKER, bound to its field, its version the time of writing in microseconds. A
worker is in the count as long as its field is there: it removes it when it ends cleanly, and an operator or its own
staleness limit does when it has fallen silent.

Source: docs/decisions/0053-acknowledgements.md.
"""

from typing import Annotated, Final

import msgspec

from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.snapshot import Keys

# A worker's clock may be this far behind ours before it leaves the count too early.
_SLACK_SECONDS: Final = 2.0
_MICROSECONDS: Final = 1_000_000
MOST_BEHIND: Final = 32
MOST_REFUSALS: Final = 16
# In place of an account: every account.
ANY_ACCOUNT: Final = "*"

_Text = Annotated[str, msgspec.Meta(max_length=512)]


class Refusal(msgspec.Struct, frozen=True, rename="camel"):
    """A document that a worker did not take: where it stood and why. Never what it held."""

    location: _Text
    reason: _Text
    # Microseconds since 1970.
    refused_at: int


class Behind(msgspec.Struct, frozen=True, rename="camel"):
    """Publications that a worker has passed and not put in force: of this account, with these numbers."""

    account: _Text
    first: int
    last: int


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A worker's state. Times are microseconds since 1970 by the worker's clock."""

    id: _Text
    host: _Text
    process: int
    release: _Text = ""
    started_at: int
    heartbeat_at: int
    # For how many seconds it serves what it holds when it hears nothing from Redis; then it refuses everything.
    staleness: float = 86_400.0
    # When it was last in sync with Redis; 0: never.
    in_sync_at: int = 0
    # The life of Redis that it follows; None before the first contact.
    epoch: _Text | None = None
    # The number of the newest change that it has passed, and when that was.
    position: int = 0
    applied_at: int = 0
    # What of that it has not put in force: refused, or waiting to be read anew. With more than fit, one for all.
    behind: Annotated[tuple[Behind, ...], msgspec.Meta(max_length=MOST_BEHIND)] = ()
    is_in_sync: bool = False
    accounts: int = 0
    requests: int = 0
    refusals: int = 0
    last_refusals: Annotated[tuple[Refusal, ...], msgspec.Meta(max_length=MOST_REFUSALS)] = ()

    def has_applied(self, account: str, number: int) -> bool:
        """Whether a publication of an account is in force at this worker, in the epoch that it follows."""
        return self.position >= number and not any(
            each.first <= number <= each.last for each in self.behind if each.account in {account, ANY_ACCOUNT}
        )

    def is_silent_for_good(self, now: int) -> bool:
        """Whether it has been silent for longer than it would serve: it refuses everything, if it lives.

        Args:
            now: microseconds since 1970.
        """
        return now - self.heartbeat_at > (self.staleness + _SLACK_SECONDS) * _MICROSECONDS


def behind_of(accounts: dict[str, tuple[int, int]]) -> tuple[Behind, ...]:
    """What a report says of the accounts that are behind, each with its first and last number."""
    if len(accounts) <= MOST_BEHIND:
        return tuple(Behind(account, first, last) for account, (first, last) in accounts.items())
    bounds = accounts.values()
    return (Behind(ANY_ACCOUNT, min(first for first, _ in bounds), max(last for _, last in bounds)),)


def seal_report(keys: Keys, document_keys: DocumentKeys, report: WorkerReport) -> bytes:
    """The envelope of a report."""
    body = msgspec.json.encode(report)
    return document_keys.sign(Purpose.WORKER, _location(keys, report.id), report.heartbeat_at, body)


def open_report(keys: Keys, document_keys: DocumentKeys, worker: str, envelope: bytes) -> WorkerReport:
    """The report in a worker's field.

    Raises:
        NotAuthentic: no worker wrote this, or not here.
    """
    _, body = document_keys.verify(Purpose.WORKER, _location(keys, worker), envelope)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NotAuthentic("This is not a report that this release understands.") from None


def _location(keys: Keys, worker: str) -> str:
    return f"{keys.workers}\n{worker}"


_decoder: Final = msgspec.json.Decoder(WorkerReport)
