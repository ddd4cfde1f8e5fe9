"""What a restored backup does not know: access keys that were deleted or disabled after it was made.

PostgreSQL has gone back, Redis has not. As long as Redis was not rebuilt from the backup, it is the witness: a token
that it does not hold was deleted since, one that it holds as disabled was disabled since. Such keys are disabled, not
deleted: a person may look at them first.

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
    """Redis cannot tell what happened after the backup was made."""


def revoked_since(store: SnapshotRedis) -> Iterator[AccessKey]:
    """Access keys that the database would serve and Redis would not. For a database that was just restored.

    Raises:
        NoWitness: Redis is empty or incomplete, or holds nothing that is newer than the database.
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
    """Disable them, each in a transaction of its own. Returns how many there were."""
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
    """Whether Redis knows the token as one that is neither deleted nor disabled."""
    if envelope is None:
        return False
    location = keys().location("", access_key.snapshot_document)
    try:
        body = document_keys().verify(Purpose.DOCUMENT, location, envelope).body
        return not snapshot.decode(TokenDocument, body).disabled
    except (NotAuthentic, DocumentRefused):
        return False
