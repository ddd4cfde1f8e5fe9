"""The health of provider keys in real traffic: when the current value last worked, and when it was last refused."""

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from django.db import connection

from provider_keys.models import ProviderKey


class KeyOutcomes(NamedTuple):
    """The newest outcomes of one value of a provider key in a batch of usage events."""

    provider_key: uuid.UUID
    account: uuid.UUID
    # The mask of the value that was used. Only outcomes of the current value are written.
    mask: str
    # The newest success, and the newest refusal with its status (0: no answer). None if there was none.
    success_at: datetime | None
    refusal_at: datetime | None
    refusal_status: int | None


# A row is written at most once a minute, but at once if its newest outcome changes between success and refusal, or if
# the refusal's status changes. A row that another transaction has locked is skipped.
_NOTE: Final = f"""
WITH seen (id, account_id, mask, success_at, refusal_at, refusal_status) AS (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::smallint[])
), due AS (
    SELECT key.id, seen.refusal_status,
           CASE WHEN seen.success_at > coalesce(key.last_success_at + interval '1 minute', '-infinity')
                OR seen.success_at > key.last_refusal_at AND key.last_refusal_at >= key.last_success_at
                THEN seen.success_at END AS success_at,
           CASE WHEN seen.refusal_at > coalesce(key.last_refusal_at + interval '1 minute', '-infinity')
                OR seen.refusal_at > key.last_refusal_at AND seen.refusal_status <> key.last_refusal_status
                OR seen.refusal_at > key.last_success_at AND key.last_success_at >= key.last_refusal_at
                THEN seen.refusal_at END AS refusal_at
    FROM {ProviderKey._meta.db_table} AS key
    JOIN seen ON seen.id = key.id AND seen.account_id = key.account_id AND seen.mask = key.key_redacted
    ORDER BY key.id FOR NO KEY UPDATE OF key SKIP LOCKED
)
UPDATE {ProviderKey._meta.db_table} AS key
SET last_success_at = coalesce(due.success_at, last_success_at),
    last_refusal_at = coalesce(due.refusal_at, last_refusal_at),
    last_refusal_status = CASE WHEN due.refusal_at IS NULL THEN last_refusal_status ELSE due.refusal_status END
FROM due WHERE key.id = due.id AND (due.success_at IS NOT NULL OR due.refusal_at IS NOT NULL)
"""  # noqa: S608 -- our own table


def note_outcomes(outcomes: Collection[KeyOutcomes]) -> None:
    """Write the newest outcomes of provider keys. `updated_at` and the ETag stay the same."""
    if outcomes:
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, [list(column) for column in zip(*outcomes, strict=True)])
