"""The overview: requests, errors, cost and tokens, the health of provider keys, the workers, and the first steps."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from redis.exceptions import RedisError

from access_keys.models import AccessKey
from accounts.models import Account
from accounts.quotas import nearly_full, uses_of
from configurations.models import Configuration
from dashboard.kit.charts import Chart, Number, Series, stacked
from dashboard.kit.lists import Filter, Filters
from dashboard.kit.page import Page
from dashboard.navigation import OVERVIEW
from dashboard.wording.relative_time import duration
from dashboard.wording.scope_summary import ProviderNames
from gateway_core import ids
from gateway_core.catalog import BUILT_IN
from provider_keys.models import ProviderKey
from providers.models import Provider
from rest import uris
from snapshots.models import Publication
from snapshots.workers import read_workers
from usage import reading
from usage.latencies import LOOKED_AT, latencies
from usage.models import Rollup

Dimension = Rollup.Dimension
Span = Rollup.Span

# A chart shows so many groups of their own, and all others as one.
GROUPS: Final = 8
# The number of provider keys on the page.
_KEYS: Final = 6
_CONSIDERED: Final = 200
# The number of providers and models whose times are shown.
_FASTNESSES: Final = 10
_FILTERS: Final = (
    Filter("range", "Time", (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"))),
    Filter("by", "By", (("provider", "provider"), ("access-key", "access key"))),
)
_RANGES: Final = {"24h": (Span.HOUR, 24), "7d": (Span.DAY, 7), "30d": (Span.DAY, 30)}
_DEFAULT_RANGE: Final = "7d"

# The README's first steps, with this gateway's address.
_COMMANDS: Final = """\
api() {{
  curl -s "{base}/$1" -d "$2" -H "Authorization: Bearer $AI_GATEWAY_API_KEY" -H "Content-Type: application/json"
}}
api provider-keys '{{"providerId": "openai", "name": "team key", "value": "'"$OPENAI_API_KEY"'"}}'
api access-key-configurations '{{"name": "chat", "access": {{"models": {{"allow": ["openai:gpt-4o"]}}}},
  "router": {{"rules": [{{"provider": "openai", "steps": [{{"type": "user", "keys": [{{"id": "aigpk_…"}}]}}]}}]}}}}'
api access-keys '{{"name": "my app", "accessKeyConfigurationId": "aigac_…"}}'"""


@dataclass(frozen=True)
class Step:
    """One of the first steps, and whether it is done."""

    title: str
    text: str
    page: str
    action: str
    is_done: bool


class LatencyRow(NamedTuple):
    """A provider's model, and how fast it answered: each time as (median, 95th percentile), as texts."""

    provider: str
    model: str
    requests: int
    whole: tuple[str, ...]
    # Empty where no worker said it.
    first_byte: tuple[str, ...]


class OverviewPage(Page):
    """`/dashboard/`: the charts, or the first steps."""

    path = ""
    name = "overview"
    section = OVERVIEW
    title = "Overview"
    template = "dashboard/overview.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the charts, or the first steps before there was a request."""
        filters = Filters(request, _FILTERS)
        range_ = filters["range"] or _DEFAULT_RANGE
        by = Dimension.ACCESS_KEY if filters["by"] == "access-key" else Dimension.PROVIDER
        account = self.visit.account
        return self.render(
            charts=charts_of(account, range_=range_, by=by, now=timezone.now()),
            ranges=_FILTERS[0].choices,
            range=range_,
            groupings=_FILTERS[1].choices,
            by=filters["by"] or "provider",
            latencies=self._latencies(range_),
            looked_at=LOOKED_AT,
            keys=self._keys(),
            workers=_workers(account),
            steps=self._steps(),
            full=nearly_full(uses_of(account.id)),
            commands=_COMMANDS.format(base=uris.base_of(request)),
        )

    def _latencies(self, range_: str) -> list[LatencyRow]:
        """How fast the providers and models with the most requests answered."""
        span, count = _RANGES[range_]
        since = timezone.now() - (timedelta(hours=count) if span is Span.HOUR else timedelta(days=count))
        names = ProviderNames.of(self.visit.account)
        return [
            LatencyRow(
                names.called(one.provider),
                one.model,
                one.answered,
                tuple(map(duration, one.whole)),
                tuple(map(duration, one.first_byte or ())),
            )
            for one in latencies(self.visit.account, since=since, most=_FASTNESSES)
        ]

    def _keys(self) -> list[ProviderKey]:
        """The provider keys to show: those with refusals first, then those that were used last."""
        newest = list(self.owned(ProviderKey).defer("sealed", "fingerprint").order_by("-id")[:_CONSIDERED])
        never = datetime.min.replace(tzinfo=UTC)
        newest.sort(key=lambda key: (key.is_refused, key.last_used or never), reverse=True)
        return newest[:_KEYS]

    def _steps(self) -> list[Step]:
        """The steps to the first request. Empty once there was one."""
        used = self.owned(AccessKey).filter(last_used__isnull=False).exists()
        if used:
            return []
        return [
            Step(
                "Add a provider key",
                "The key that an upstream gave you. It is sealed at once, and only its mask is shown from then on.",
                "provider-keys",
                "Provider keys",
                self.owned(ProviderKey).exists(),
            ),
            Step(
                "Make a configuration",
                "Which providers and models apps may reach, and whose keys are used in which order.",
                "configurations",
                "Configurations",
                self.owned(Configuration).exists(),
            ),
            Step(
                "Issue an access key",
                "The one token that an app holds. It is shown once.",
                "access-keys",
                "Access keys",
                self.owned(AccessKey).exists(),
            ),
            Step(
                "Send the first request",
                "With the access key, to the data plane. It shows here within ten seconds.",
                "activity",
                "Activity",
                is_done=False,
            ),
        ]


def charts_of(account: Account, *, range_: str, by: Rollup.Dimension, now: datetime) -> list[Chart]:
    """Requests, errors, cost and tokens over time.

    Args:
        account: the account whose usage is shown.
        range_: one of `24h` (by hour), `7d`, `30d` (by UTC day).
        by: the dimension that divides each bar.
        now: the end of the range.
    """
    span, count = _RANGES[range_]
    step = timedelta(hours=1) if span is Span.HOUR else timedelta(days=1)
    last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if span is Span.DAY:
        last = last.replace(hour=0)
    times = [last - step * back for back in reversed(range(count))]
    points = reading.trend(account, since=times[0], span=span, by=by, most=GROUPS)
    places: dict[str, int] = {}
    for point in sorted(points, key=lambda point: point.group_key == reading.OTHERS):
        places.setdefault(point.group_key, GROUPS if point.group_key == reading.OTHERS else len(places))
    labels = _labels(account, by, list(places))
    series = [Series(labels[key], place) for key, place in places.items()]

    def chart(title: str, value: Callable[[reading.Point], Number], written: Callable[[Number], str]) -> Chart:
        return stacked(
            title,
            times=times,
            label_time=_hour if span is Span.HOUR else _day,
            series=series,
            values={(point.start.astimezone(UTC), places[point.group_key]): value(point) for point in points},
            written=written,
        )

    return [
        chart("Requests", lambda point: point.requests, _count),
        chart("Errors", lambda point: point.errors, _count),
        chart("Cost", lambda point: point.cost, _cost),
        chart("Tokens", lambda point: point.tokens, _count),
    ]


def _labels(account: Account, by: Rollup.Dimension, groups: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {reading.OTHERS: "Others"}
    if by is Dimension.PROVIDER:
        custom = dict(Provider.objects.filter(account=account, slug__in=groups).values_list("slug", "name"))
        for key in groups:
            if key in BUILT_IN:
                named.setdefault(key, BUILT_IN[key].display_name)
            named.setdefault(key, custom.get(key, key))
        return named
    wanted = [uuid.UUID(key) for key in groups if key]
    for access_key in AccessKey.objects.filter(account=account, id__in=wanted):
        named[str(access_key.id)] = access_key.name or access_key.key_redacted
    for id_ in wanted:
        named.setdefault(str(id_), f"deleted ({ids.to_text(ids.Prefix.ACCESS_KEY, id_)[:12]}…)")
    return named


def _workers(account: Account) -> dict[str, Any]:
    """The number of workers, and the number at which the account's newest version is in force."""
    try:
        workers = read_workers()
    except RedisError:
        return {"is_redis_away": True}
    publication = Publication.objects.filter(account=account).first()
    number = publication.number if publication else 0
    return {
        "count": len(workers.reports),
        "applied": workers.applied(account.text_id, number),
        "published_at": publication.published_at if publication else None,
    }


def _hour(time: datetime) -> str:
    return f"{time:%b %-d, %H:%M} UTC"


def _day(time: datetime) -> str:
    return f"{time:%b %-d}"


def _count(value: Number) -> str:
    return f"{int(value):,}"


def _cost(value: Number) -> str:
    dollars = Decimal(value)
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:,.4f}"


PAGES: Final = (OverviewPage,)
