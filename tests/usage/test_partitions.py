"""Holds: usage.partitions

The months of the event table: there when they are needed, gone when the retention has passed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import Account
from gateway_admin.celery import app
from tests.events import an_event
from tests.usage.conftest import Emit
from usage import ledger, partitions, tasks
from usage.models import Event, Rollup

pytestmark = pytest.mark.django_db


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    with mock.patch("django.utils.timezone.now", return_value=moment):
        yield


@pytest.mark.parametrize(
    ("month", "count", "expected"),
    [
        ((2026, 11), 1, (2026, 12)),
        ((2026, 12), 1, (2027, 1)),
        ((2026, 12), 14, (2028, 2)),
        ((2026, 1), -1, (2025, 12)),
        ((2026, 3), -15, (2024, 12)),
    ],
)
def test_months_follow_each_other(month: tuple[int, int], count: int, expected: tuple[int, int]) -> None:
    assert partitions.following(datetime(*month, 1, tzinfo=UTC), count) == datetime(*expected, 1, tzinfo=UTC)


def test_a_moment_belongs_to_its_month_in_utc() -> None:
    moment = datetime.fromisoformat("2026-11-01T00:30:00+02:00")

    assert partitions.month_of(moment) == datetime(2026, 10, 1, tzinfo=UTC)


def test_months_are_made_ahead_and_only_once() -> None:
    with at(datetime(2031, 11, 30, 23, 59, tzinfo=UTC)):
        partitions.make_ahead()
        partitions.make_ahead()

    assert partitions.existing()[-3:] == ["usage_event_2031_11", "usage_event_2031_12", "usage_event_2032_01"]


def test_an_id_is_unique_in_its_partition(account: Account, emit: Emit) -> None:
    emit([an_event(account)])
    row = Event.objects.get()

    with pytest.raises(IntegrityError, match="counts_once"), transaction.atomic():
        Event.objects.bulk_create([row])


def test_the_partitions_have_the_tables_indexes(account: Account, emit: Emit) -> None:
    emit([an_event(account)])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent IN "
            "('events_newest_first'::regclass, 'events_of_an_access_key'::regclass,"
            " 'final_events_newest_first'::regclass, 'final_events_of_an_access_key'::regclass)"
        )
        (attached,) = cursor.fetchone()

    assert attached == 4 * len(partitions.existing())


def test_a_month_past_the_retention_is_forgotten_with_its_sums_and_the_money_stays(
    account: Account, emit: Emit, settings: Any
) -> None:
    settings.USAGE_RETENTION_MONTHS = 3
    now = timezone.now()
    emit([an_event(account), an_event(account, at=now - timedelta(days=30))])
    balance = ledger.balance_of(account)
    months = {partitions.month_of(now), partitions.month_of(now - timedelta(days=30))}

    with at(partitions.following(min(months), 3)):
        partitions.drop_expired()
    assert Event.objects.count() == 2

    with at(partitions.following(max(months), 4)):
        dropped = partitions.drop_expired()

    assert set(dropped) == {f"usage_event_{month:%Y_%m}" for month in months}
    assert not Event.objects.exists()
    assert not Rollup.objects.exists()
    assert ledger.balance_of(account) == balance


@pytest.mark.parametrize("months", [0, 1, -5])
def test_what_may_still_be_on_its_way_is_never_forgotten(settings: Any, months: int) -> None:
    settings.USAGE_RETENTION_MONTHS = months
    now = datetime(2026, 11, 1, tzinfo=UTC)

    assert now - partitions.oldest_kept(now) > timedelta(days=32)


def test_the_beat_knows_every_task_and_the_tasks_run(account: Account) -> None:
    app.loader.import_default_modules()
    for entry in django_settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks

    tasks.expire_credits()
    tasks.keep_partitions()

    assert timezone.now().strftime("usage_event_%Y_%m") in partitions.existing()
