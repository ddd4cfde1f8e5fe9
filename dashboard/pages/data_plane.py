"""The page of the data plane: the workers, and whether they have applied the newest version."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.http import HttpRequest, HttpResponse
from redis.exceptions import RedisError

from accounts.models import Account
from dashboard.kit.page import Page
from dashboard.navigation import DATA_PLANE
from gateway_core.worker_reports import Refusal, WorkerReport
from snapshots.models import Change, Publication
from snapshots.workers import Workers, read_workers

# Seconds. A worker reports each second, so one without a report for this long has a problem.
_SILENT_SECONDS: Final = 10.0
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True)
class WorkerRow:
    """One worker with the texts that the page shows."""

    report: WorkerReport
    has_applied: bool
    # The entries of the change stream that it has not passed; None while it follows another epoch.
    lag: int | None
    is_silent: bool
    started_at: datetime
    heartbeat_at: datetime
    in_sync_at: datetime | None
    # The operator sees all refusals, a member those of the account.
    refusals: tuple[tuple[Refusal, datetime], ...]

    @property
    def state(self) -> tuple[str, str]:
        """Return (word, kind of badge)."""
        if self.is_silent:
            return "Silent", "bad"
        if not self.report.is_in_sync:
            return "Out of sync", "warning"
        return ("Up to date", "good") if self.has_applied else ("Behind", "warning")


class DataPlanePage(Page):
    """`/dashboard/data-plane`: the state of every worker."""

    path = "data-plane"
    name = "data-plane"
    section = DATA_PLANE
    title = "Data plane"
    template = "dashboard/data_plane.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the report of each worker, and the newest publication."""
        account = self.visit.account
        publication = Publication.objects.filter(account=account).first()
        pending = Change.objects.filter(account=account)
        try:
            workers = read_workers()
        except RedisError:
            return self.render(publication=publication, is_redis_away=True, parked=_parked(account))
        number = publication.number if publication else 0
        rows = [self._row(workers, report, number) for report in workers.reports]
        return self.render(
            publication=publication,
            rows=rows,
            applied=sum(row.has_applied for row in rows),
            is_pending=pending.filter(parked_at=None).exists(),
            parked=_parked(account),
            is_operator=self.visit.user.is_superuser,
        )

    def _row(self, workers: Workers, report: WorkerReport, number: int) -> WorkerRow:
        account = self.visit.account.text_id
        silent = workers.seconds_since(report.heartbeat_at)
        return WorkerRow(
            report=report,
            has_applied=workers.has_applied(report, account, number),
            lag=workers.lag_of(report),
            is_silent=silent is not None and silent > _SILENT_SECONDS,
            started_at=_moment(report.started_at),
            heartbeat_at=_moment(report.heartbeat_at),
            in_sync_at=_moment(report.in_sync_at) if report.in_sync_at else None,
            refusals=tuple(
                (refusal, _moment(refusal.refused_at))
                for refusal in report.last_refusals
                if self.visit.user.is_superuser or account in refusal.location
            ),
        )


def _parked(account: Account) -> list[Change]:
    return list(Change.objects.filter(account=account, parked_at__isnull=False).order_by("-id")[:10])


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / _MICROSECONDS, tz=UTC)


PAGES: Final = (DataPlanePage,)
