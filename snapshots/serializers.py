"""The wire form of the data plane's workers, limited to what an account may see."""

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from gateway_core.worker_reports import WorkerReport
from rest.fields import TimestampField
from rest.serializers import ShownSerializer
from snapshots.redis_client import keys
from snapshots.workers import Workers

_MICROSECONDS = 1_000_000


class RefusalSerializer(ShownSerializer):
    """A document that a worker refused."""

    refused_at = TimestampField(help_text="When the worker refused it.")
    reason = serializers.CharField(help_text="Why, in words.")
    location = serializers.CharField(
        required=False, help_text="Its Redis key and field. Left out if the document belongs to another account."
    )


class RefusalsSerializer(ShownSerializer):
    """The documents of any account that a worker has refused since it started."""

    count = serializers.IntegerField(min_value=0, help_text="How many.")
    newest = RefusalSerializer(many=True, help_text="The last ones, newest first.")


class WorkerSerializer(ShownSerializer):
    """A worker process in the count. Writes wait for the workers in the count."""

    id = serializers.CharField(help_text="Each start of a worker gets a new ID.")
    release = serializers.CharField(required=False, help_text="The release that it runs.")
    started_at = TimestampField(help_text="When it was started.")
    heartbeat_at = TimestampField(help_text="The time of its last report, by its own clock.")
    heartbeat_age_seconds = serializers.FloatField(min_value=0, help_text="The time since its last report.")
    position = serializers.IntegerField(min_value=0, help_text="The number of the newest change that it has processed.")
    lag = serializers.IntegerField(
        min_value=0,
        allow_null=True,
        help_text="How many changes it is behind the newest; null until it has found the current epoch of Redis.",
    )
    in_sync = serializers.BooleanField(
        help_text="Whether it could decide on keys that it does not hold, at its last report."
    )
    stale_seconds = serializers.FloatField(
        min_value=0, allow_null=True, help_text="The time since it was last known to be in sync; null: never."
    )
    staleness_limit_seconds = serializers.FloatField(
        min_value=0,
        help_text="A worker that is out of sync for this long refuses every request; one that sends no report for this "
        "long is not counted.",
    )
    account_applied = serializers.BooleanField(
        help_text="Whether the newest publication of this account is in force at this worker."
    )
    requests = serializers.IntegerField(min_value=0, help_text="Since it started.")
    refusals = RefusalsSerializer()


def shown_worker(workers: Workers, report: WorkerReport, *, account: str, number: int) -> dict[str, Any]:
    """The fields of a worker that an account may see: not its host, and nothing about other accounts.

    Args:
        workers: all workers at the time of the report.
        report: the worker's report.
        account: the `ac_…` ID of the account that asks.
        number: the number of the account's newest publication.
    """
    return {
        "id": report.id,
        "release": report.release or None,
        "started_at": _time(report.started_at),
        "heartbeat_at": _time(report.heartbeat_at),
        "heartbeat_age_seconds": _seconds(workers, report.heartbeat_at),
        "position": report.position,
        "lag": workers.lag_of(report),
        "in_sync": report.is_in_sync,
        "stale_seconds": _seconds(workers, report.in_sync_at),
        "staleness_limit_seconds": report.staleness,
        "account_applied": workers.has_applied(report, account, number),
        "requests": report.requests,
        "refusals": {
            "count": report.refusals,
            "newest": [
                {
                    "refused_at": _time(refusal.refused_at),
                    "reason": refusal.reason,
                    "location": refusal.location if _is_of(account, refusal.location) else None,
                }
                for refusal in reversed(report.last_refusals)
            ],
        },
    }


def _is_of(account: str, location: str) -> bool:
    # Workers write a location on one line. The location of a token does not contain an account.
    return location == f"{keys().changes} {account}" or location.startswith(f"{keys().account(account)} ")


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)


def _seconds(workers: Workers, moment: int) -> float | None:
    seconds = workers.seconds_since(moment)
    return None if seconds is None else round(seconds, 3)
