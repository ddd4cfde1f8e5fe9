"""Find the access keys that were deleted or disabled after a restored backup was made.

PostgreSQL has gone back in time, Redis has not. As long as Redis is not rebuilt from the backup, it shows what happened
since: a token that it does not hold was deleted, one that it holds as disabled was disabled. Such keys are disabled and
not deleted, so that a person can check them first.

Source: docs/decisions/0112-restored-backups.md.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from access_keys.models import AccessKey
from access_keys.services import disable_by_operator
from gateway_core import snapshot
from gateway_core.envelopes import NotAuthentic, Purpose
from gateway_core.snapshot import DocumentRefused, TokenDocument
from rest.errors import NotFound
from snapshots import rebuild
from snapshots.redis_client import SnapshotRedis, document_keys, keys

_CHUNK: Final = 500


class NoWitness(Exception):
    """Redis does not show what happened after the backup was made."""


def revoked_since(store: SnapshotRedis) -> Iterator[AccessKey]:
    """Yield the access keys that are enabled in the database and not in Redis. Call it just after a restore.

    Raises:
        NoWitness: Redis is empty or incomplete, or holds nothing newer than the database.
        RedisError: Redis did not answer.
    """
    found = store.epoch()
    if not found.is_complete:
        raise NoWitness("Redis is empty, or a rebuild of it did not end: it has forgotten what was revoked.")
    if found.number <= rebuild.highest_number():
        raise NoWitness(
            "Redis holds nothing newer than this database: nothing was written after the backup was made, or Redis was "
            "rebuilt from it already and has forgotten what was revoked."
        )
    last = None
    while chunk := list(_enabled(after=last)):
        last = chunk[-1].id
        envelopes: Any = store.redis.mget([keys().prefix + key.snapshot_document for key in chunk])
        yield from (key for key, envelope in zip(chunk, envelopes, strict=True) if not _is_served(key, envelope))


def disable_revoked(access_keys: Iterable[AccessKey]) -> int:
    """Disable access keys, each in its own transaction. Returns the number of disabled keys."""
    count = 0
    for access_key in access_keys:
        with suppress(NotFound):
            disable_by_operator(access_key=access_key)
            count += 1
    return count


def _enabled(*, after: Any) -> Iterator[AccessKey]:
    rows = AccessKey.objects.filter(disabled=False).select_related("account").order_by("id")
    yield from (rows.filter(id__gt=after) if after else rows)[:_CHUNK]


def _is_served(access_key: AccessKey, envelope: bytes | None) -> bool:
    """Whether Redis holds the token and it is not disabled there."""
    if envelope is None:
        return False
    location = keys().location("", access_key.snapshot_document)
    try:
        body = document_keys().verify(Purpose.DOCUMENT, location, envelope).body
        return not snapshot.decode(TokenDocument, body).disabled
    except (NotAuthentic, DocumentRefused):
        return False
