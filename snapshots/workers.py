"""The data-plane workers by their own reports, for the API, the dashboard, operators' commands and waiting writes.

Redis is not trusted. A report that does not verify is ignored. If a report is older than the newest one that this
process has seen of the worker, the newest one is used.

Source: docs/decisions/0053-acknowledgements.md.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from gateway_core.envelopes import NotAuthentic
from gateway_core.snapshot import EpochInRedis
from gateway_core.worker_reports import WorkerReport, open_report
from snapshots.redis_client import SnapshotRedis, document_keys, inline_store, keys

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True)
class Workers:
    """Every worker process in the count, at one moment."""

    epoch: EpochInRedis
    # The newest process first. A report contains the worker's host, which only operators may see.
    reports: tuple[WorkerReport, ...]
    # Microseconds since 1970.
    read_at: int

    def has_applied(self, report: WorkerReport, account: str, number: int) -> bool:
        """Whether a publication is in force at a worker.

        Args:
            report: the report of one of these workers.
            account: an account's `ac_…` ID.
            number: the publication's number in the change stream.
        """
        # In another epoch the same number is another publication.
        return report.epoch == self.epoch.id and report.has_applied(account, number)

    def applied(self, account: str, number: int) -> int:
        """The number of workers at which a publication is in force."""
        return sum(self.has_applied(report, account, number) for report in self.reports)

    def lag_of(self, report: WorkerReport) -> int | None:
        """How many changes a worker is behind the newest; None while it is in another epoch."""
        return max(0, self.epoch.number - report.position) if report.epoch == self.epoch.id else None

    def seconds_since(self, moment: int) -> float | None:
        """The seconds since a time in a report (microseconds since 1970); None for 0, which means never."""
        return max(0.0, (self.read_at - moment) / _MICROSECONDS) if moment else None


class Reports:
    """The newest report of each worker that this process has seen. For one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, WorkerReport]] = {}
        # Reports that did not verify: each one is checked and logged only once.
        self._refused: dict[str, bytes] = {}

    def take(self, fields: Mapping[bytes, bytes]) -> tuple[WorkerReport, ...]:
        """Verify the fields of the hash `workers`, and return the reports, the newest process first."""
        seen, refused = {}, {}
        for field, envelope in fields.items():
            worker = field.decode("ascii", "replace")
            known = self._seen.get(worker)
            if self._refused.get(worker) == envelope:
                refused[worker] = envelope
            elif known is None or known[0] != envelope:
                try:
                    report = open_report(keys(), document_keys(), worker, envelope)
                except NotAuthentic as fault:
                    log.warning("a worker's report is not authentic", worker=worker[:64], reason=str(fault))
                    refused[worker] = envelope
                else:
                    if known is None or report.heartbeat_at > known[1].heartbeat_at:
                        known = (envelope, report)
            if known is not None:
                seen[worker] = known
        self._seen, self._refused = seen, refused
        return tuple(report for _, (_, report) in sorted(seen.items(), reverse=True))


def workers_of(reports: Reports, fields: Mapping[bytes, bytes], epoch: EpochInRedis) -> Workers:
    """The workers in the count, from values that were read from Redis."""
    now = time.time_ns() // 1000
    return Workers(
        epoch=epoch,
        reports=tuple(report for report in reports.take(fields) if not report.is_silent_for_good(now)),
        read_at=now,
    )


def read_workers(store: SnapshotRedis | None = None) -> Workers:
    """Read the workers from Redis. This needs two commands.

    Args:
        store: the Redis to read; by default this process's client with a time-out of 250 ms.

    Raises:
        RedisError: Redis did not answer.
    """
    store = store or inline_store()
    fields: Any = store.redis.hgetall(keys().workers)
    return workers_of(Reports(), fields, store.epoch())


def forget_worker(worker: str, store: SnapshotRedis | None = None) -> bool:
    """Remove a worker from the count. A live worker enters it again with its next report, within about a second.

    Returns:
        Whether it was in the count.

    Raises:
        RedisError: Redis did not answer.
    """
    store = store or inline_store()
    with store.redis.pipeline(transaction=False) as pipeline:
        pipeline.hdel(keys().workers, worker)
        pipeline.xadd(keys().acknowledged, {"worker": worker}, maxlen=1, approximate=False)
        removed, _ = pipeline.execute()
    return bool(removed)


def reports_in(store: SnapshotRedis) -> dict[bytes, bytes]:
    """The workers' reports as stored in Redis, for `restore_reports`.

    Raises:
        RedisError: Redis did not answer.
    """
    fields: Any = store.redis.hgetall(keys().workers)
    return dict(fields)


def restore_reports(store: SnapshotRedis, reports: Mapping[bytes, bytes]) -> None:
    """Write back reports that Redis has lost, so that a worker that is silent meanwhile stays in the count.

    Raises:
        RedisError: Redis did not answer.
    """
    with store.redis.pipeline(transaction=False) as pipeline:
        for worker, envelope in reports.items():
            pipeline.hsetnx(keys().workers, worker, envelope)
        pipeline.execute()


def forget_silent_workers(store: SnapshotRedis) -> list[str]:
    """Remove from the count workers that were silent for too long, and reports that do not verify.

    Returns:
        The IDs of the removed workers.

    Raises:
        RedisError: Redis did not answer.
    """
    fields: Any = store.redis.hgetall(keys().workers)
    counted = {report.id.encode() for report in workers_of(Reports(), fields, store.epoch()).reports}
    gone = [field for field in fields if field not in counted]
    if gone:
        store.redis.hdel(keys().workers, *gone)
    return [field.decode("utf-8", "replace") for field in gone]
