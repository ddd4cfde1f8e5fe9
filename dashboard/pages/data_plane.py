"""The workers, and whether they have applied the newest version."""

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

# A worker tells of itself each second; who has said nothing for this long is not well.
_SILENT_SECONDS: Final = 10.0
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True)
class WorkerRow:
    """One worker as the page shows it."""

    report: WorkerReport
    has_applied: bool
    # Entries of the change stream that it has not passed; None while it follows another life of Redis.
    lag: int | None
    is_silent: bool
    started_at: datetime
    heartbeat_at: datetime
    in_sync_at: datetime | None
    # Only what the visitor may know of: the operator everything, a member what concerns the account.
    refusals: tuple[tuple[Refusal, datetime], ...]

    @property
    def state(self) -> tuple[str, str]:
        """A word, and the kind of badge that it is shown in."""
        if self.is_silent:
            return "Silent", "bad"
        if not self.report.is_in_sync:
            return "Out of sync", "warning"
        return ("Up to date", "good") if self.has_applied else ("Behind", "warning")


class DataPlanePage(Page):
    """`/dashboard/data-plane`."""

    path = "data-plane"
    name = "data-plane"
    section = DATA_PLANE
    title = "Data plane"
    template = "dashboard/data_plane.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """What each worker tells of itself, beside what was published last."""
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
