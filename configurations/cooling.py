"""What the workers say of the keys of an explanation: which of them they pass over now.

Source: docs/decisions/0059-cooling.md.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from redis.exceptions import RedisError

from accounts.models import Account
from gateway_core.explanation import CoolingAt, ExplainedAttempt, Explanation
from gateway_core.usage_events import fit_name
from snapshots.workers import read_workers

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Place = tuple[str, str | None, str]


def with_cooling(account: Account, explanation: Explanation) -> Explanation:
    """An explanation whose attempts name the workers that pass them over now.

    The workers say so in their reports, each second. Where Redis does not answer, nothing is added.
    """
    if not explanation.attempts:
        return explanation
    try:
        workers = read_workers()
    except RedisError:
        return explanation
    found: dict[_Place, list[CoolingAt]] = {}
    for report in workers.reports:
        for key in report.cooling:
            if key.account == account.text_id and key.until > workers.read_at:
                place = key.provider, key.provider_key, key.model
                found.setdefault(place, []).append(
                    CoolingAt(report.id, key.cause, _moment(key.since), _moment(key.until))
                )
    if not found:
        return explanation
    attempts = (
        msgspec.structs.replace(attempt, cooling=tuple(cooling)) if (cooling := found.get(_place(attempt))) else attempt
        for attempt in explanation.attempts
    )
    return msgspec.structs.replace(explanation, attempts=tuple(attempts))


def _place(attempt: ExplainedAttempt) -> _Place:
    return fit_name(attempt.provider), attempt.provider_key_id, fit_name(attempt.model)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
