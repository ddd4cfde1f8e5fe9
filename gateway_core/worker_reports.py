"""The reports that data-plane workers write about themselves and the control plane reads.

    {gw}:workers        HASH    one field for each worker process, by its ID: its report
    {gw}:acknowledged   STREAM  one entry, written again with each report; it only wakes the requests that wait

A report is an envelope with the purpose WORKER, bound to its field. Its version is the time of writing in microseconds.
A worker counts as long as its field exists. It removes the field when it ends cleanly. A silent
worker stops counting once its staleness limit is over, or when an operator removes its field.

Source: docs/decisions/0053-acknowledgements.md.
"""

from typing import Annotated, Final

import msgspec

from gateway_core.envelopes import DocumentKeys, NotAuthentic, Purpose
from gateway_core.snapshot import Keys

# A worker's clock may be this far behind ours; if it is further behind, the worker stops counting too early.
_SLACK_SECONDS: Final = 2.0
_MICROSECONDS: Final = 1_000_000
MOST_BEHIND: Final = 32
MOST_REFUSALS: Final = 16
# Keys that cool: of all accounts, and of one.
MOST_COOLING: Final = 64
MOST_COOLING_OF_AN_ACCOUNT: Final = 8
# Stands for every account where an account's ID is expected.
ANY_ACCOUNT: Final = "*"

_Text = Annotated[str, msgspec.Meta(max_length=512)]


class Refusal(msgspec.Struct, frozen=True, rename="camel"):
    """A document that a worker refused: its place in Redis and the reason, never its content."""

    location: _Text
    reason: _Text
    # Microseconds since 1970.
    refused_at: int


class Behind(msgspec.Struct, frozen=True, rename="camel"):
    """Publications of an account, `first` to `last` by number, that a worker has passed but not put in force."""

    account: _Text
    first: int
    last: int


class CoolingKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A key that a worker passes over for a model (docs/decisions/0059-cooling.md)."""

    account: _Text
    provider: _Text
    # None for the operator's key, and where no key is shown.
    provider_key: _Text | None = None
    # Cut as in a trace (gateway_core.usage_events.fit_name).
    model: _Text
    # A word of gateway_core.traces.CoolingCause.
    cause: _Text
    # Microseconds since 1970: since when, and until when at the least.
    since: int
    until: int


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A worker's state. Times are microseconds since 1970 by the worker's clock."""

    id: _Text
    host: _Text
    process: int
    release: _Text = ""
    started_at: int
    heartbeat_at: int
    # Seconds for which it keeps serving without contact to Redis. Then it refuses every request.
    staleness: float = 86_400.0
    # The last time when it was in sync with Redis; 0 means never.
    in_sync_at: int = 0
    # The ID of the epoch that it follows; None before the first contact.
    epoch: _Text | None = None
    # The number of the newest change that it has passed, and the time of that.
    position: int = 0
    applied_at: int = 0
    # Publications that it has passed but not put in force: refused, or waiting to be loaded again. Above MOST_BEHIND
    # entries, there is one entry for ANY_ACCOUNT.
    behind: Annotated[tuple[Behind, ...], msgspec.Meta(max_length=MOST_BEHIND)] = ()
    is_in_sync: bool = False
    accounts: int = 0
    requests: int = 0
    refusals: int = 0
    last_refusals: Annotated[tuple[Refusal, ...], msgspec.Meta(max_length=MOST_REFUSALS)] = ()
    # The first few of those that cool.
    cooling: Annotated[tuple[CoolingKey, ...], msgspec.Meta(max_length=MOST_COOLING)] = ()

    def has_applied(self, account: str, number: int) -> bool:
        """Whether a publication of an account is in force at this worker, in the epoch that it follows."""
        return self.position >= number and not any(
            each.first <= number <= each.last for each in self.behind if each.account in {account, ANY_ACCOUNT}
        )

    def is_silent_for_good(self, now: int) -> bool:
        """Whether it has been silent beyond its staleness limit. If it is still alive, it refuses every request by now.

        Args:
            now: microseconds since 1970.
        """
        return now - self.heartbeat_at > (self.staleness + _SLACK_SECONDS) * _MICROSECONDS


def behind_of(accounts: dict[str, tuple[int, int]]) -> tuple[Behind, ...]:
    """The `behind` field of a report.

    Args:
        accounts: (first, last) numbers of the publications that are not in force, by account ID.
    """
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
        NotAuthentic: no worker wrote this report for this field, or this release cannot read it.
    """
    _, body = document_keys.verify(Purpose.WORKER, _location(keys, worker), envelope)
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NotAuthentic("This is not a report that this release understands.") from None


def _location(keys: Keys, worker: str) -> str:
    return f"{keys.workers}\n{worker}"


_decoder: Final = msgspec.json.Decoder(WorkerReport)
