"""The time when a key was last used."""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from accounts.owned.models import OwnedModel

WRITTEN_EVERY: Final = timedelta(minutes=1)


def note_uses(model: type[OwnedModel], uses: Mapping[tuple[uuid.UUID, uuid.UUID], datetime]) -> None:
    """Write when keys were last used: at most once a minute for each key, never backwards, without waiting for locks.

    A row that another transaction has locked is skipped; the key's next use writes it. This does not count as a write
    of the resource: `updated_at` and the ETag stay the same.

    Args:
        model: a model with a column `last_used`: API keys, access keys or provider keys.
        uses: the time of the last use, by (key's UUID, account's UUID). A key of another account is skipped.
    """
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH used (id, account_id, at) AS (
                SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[])
            ), due AS (
                SELECT key.id, used.at
                FROM {table} AS key JOIN used ON used.id = key.id AND used.account_id = key.account_id
                WHERE key.last_used IS NULL OR key.last_used < used.at - make_interval(secs => %s)
                ORDER BY key.id FOR NO KEY UPDATE OF key SKIP LOCKED
            )
            UPDATE {table} AS key SET last_used = due.at FROM due WHERE key.id = due.id
            """,  # noqa: S608 -- our own table
            [
                [key for key, _ in uses],
                [account for _, account in uses],
                list(uses.values()),
                WRITTEN_EVERY.total_seconds(),
            ],
        )
