"""How fast an account's upstreams answered lately, by provider and model.

Source: docs/decisions/0067-traces.md.
"""

from datetime import datetime
from typing import Final, NamedTuple

from django.db import connection

from accounts.models import Account

# The newest final attempts that are looked at, whatever the range is.
LOOKED_AT: Final = 10_000


class Latency(NamedTuple):
    """The attempts of one provider and model that answered. Times are milliseconds."""

    provider: str
    model: str
    answered: int
    # [median, 95th percentile] of the time to the end.
    whole: list[float]
    # The same of the time to the beginning of the answer; None where no worker said it.
    first_byte: list[float] | None


def latencies(account: Account, *, since: datetime, most: int) -> list[Latency]:
    """Those with the most attempts first.

    Args:
        account: whose.
        since: the earliest event time, included.
        most: so many providers and models.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LATENCIES, [account.id, since, LOOKED_AT, most])
        return [Latency(*row) for row in cursor.fetchall()]


_LATENCIES: Final = """
WITH looked AS MATERIALIZED (
    SELECT provider, model, is_error, status, duration_ms, first_byte_ms FROM usage_event
    WHERE account_id = %s AND event_time >= %s AND is_final
    ORDER BY event_time DESC, id DESC LIMIT %s
)
SELECT provider, model, count(*),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_byte_ms)
FROM looked WHERE NOT is_error AND status BETWEEN 200 AND 299
GROUP BY provider, model ORDER BY count(*) DESC, provider, model LIMIT %s
"""
