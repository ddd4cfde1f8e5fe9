"""The wire form of the data plane's workers, as an account may see them."""

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
    """A document that a worker did not take."""

    refused_at = TimestampField()
    reason = serializers.CharField()
    location = serializers.CharField(
        required=False, help_text="Where it stood, if it was this account's; left out where it was another's."
    )


class RefusalsSerializer(ShownSerializer):
    """What a worker did not take since it started, of any account."""

    count = serializers.IntegerField(min_value=0)
    newest = RefusalSerializer(many=True)


class WorkerSerializer(ShownSerializer):
    """A worker process in the count that writes wait for."""

    id = serializers.CharField(help_text="A new one with each start.")
    release = serializers.CharField(required=False)
    started_at = TimestampField()
    heartbeat_at = TimestampField(help_text="When it was last heard of, by its own clock.")
    heartbeat_age_seconds = serializers.FloatField(min_value=0)
    position = serializers.IntegerField(min_value=0, help_text="The newest change that it has passed.")
    lag = serializers.IntegerField(
        min_value=0,
        allow_null=True,
        help_text="How many changes it is behind the newest; null while it has not found Redis's present life.",
    )
    in_sync = serializers.BooleanField(
        help_text="Whether it could judge keys that it does not hold when last heard of."
    )
    stale_seconds = serializers.FloatField(
        min_value=0, allow_null=True, help_text="How long ago it was last in sync, as far as is known; null: never."
    )
    staleness_limit_seconds = serializers.FloatField(
        min_value=0,
        help_text="After so long out of sync it refuses every request; silent for so long it is not counted.",
    )
    account_applied = serializers.BooleanField(
        help_text="Whether all that has been published of this account is in force there."
    )
    requests = serializers.IntegerField(min_value=0, help_text="Since it started.")
    refusals = RefusalsSerializer()


def shown_worker(workers: Workers, report: WorkerReport, *, account: str, number: int) -> dict[str, Any]:
    """What an account may see of a worker: neither its host nor anything of other accounts.

    Args:
        workers: what the report is of.
        report: the worker's.
        account: the `ac_…` ID of who asks.
        number: of the account's newest publication.
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
    # Workers write a place on one line. A token's place names no account: whose it is they do not know.
    return location == f"{keys().changes} {account}" or location.startswith(f"{keys().account(account)} ")


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)


def _seconds(workers: Workers, moment: int) -> float | None:
    seconds = workers.seconds_since(moment)
    return None if seconds is None else round(seconds, 3)
