"""Documents that are compared before their day: those that workers refuse, and tokens of another type.

Source: docs/decisions/0013-errors-of-redis.md.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway_core import snapshot
from gateway_core.redis_rights import literal
from gateway_core.worker_reports import WorkerReport
from snapshots import comparison, document_kinds
from snapshots.comparison import Difference, Fault
from snapshots.redis_client import SnapshotRedis, keys

# Takes Redis about a millisecond.
TOKENS_A_STEP: Final = 1000


class RefusedDocuments:
    """What workers have refused since the last look."""

    def __init__(self) -> None:
        # The time of the newest refusal that was looked at, by worker.
        self._seen: dict[str, int] = {}

    def take(self, reports: Iterable[WorkerReport]) -> list[str]:
        """The places of newly refused documents, each once."""
        found: dict[str, None] = {}
        seen = {}
        for report in reports:
            last = self._seen.get(report.id, 0)
            for refusal in report.last_refusals:
                if refusal.refused_at > last:
                    found[refusal.location] = None
            seen[report.id] = max([last, *(refusal.refused_at for refusal in report.last_refusals)])
        self._seen = seen
        return list(found)


class TokenWalk:
    """Goes over all tokens in Redis, a piece at a time, and finds those whose key is of another type.

    A worker reads a token once, so nobody else would notice before another worker needs it.
    """

    def __init__(self) -> None:
        self._cursor = 0

    def step(self, store: SnapshotRedis) -> list[str]:
        """The places of another type within the next piece."""
        found: Any = store.redis.scan(self._cursor, match=f"{literal(keys().prefix)}token:*", count=TOKENS_A_STEP)
        self._cursor, names = found
        pipeline = store.redis.pipeline(transaction=False)
        for name in names:
            pipeline.type(name)
        kinds = zip(names, pipeline.execute(), strict=True)
        return [name.decode("utf-8", "replace") for name, kind in kinds if kind not in {b"string", b"none"}]


def compare_place(store: SnapshotRedis, place: str) -> Iterator[Difference]:
    """Yield how the document at one place differs, if it does.

    Args:
        store: the Redis to compare.
        place: as a worker reports it: the Redis key, and for a hash a blank and the field. Changes, versions and the
            catalog are compared elsewhere and yield nothing.
    """
    key, _, name = place.partition(" ")
    prefix = keys().prefix
    if key.startswith(prefix + "token:"):
        name = key.removeprefix(prefix)
        owner = document_kinds.owners_of([name]).get(name)
        if owner is not None:
            yield from comparison.confirm(store, owner, [name])
        elif store.redis.exists(key):
            yield Difference(None, key, Fault.UNKNOWN)
    elif key.startswith(keys().account("")) and name != snapshot.VERSION_DOCUMENT:
        try:
            document_kinds.kind_of(name)
        except document_kinds.UnknownKind:
            return
        for account in comparison.accounts_of({key.removeprefix(keys().account(""))}).values():
            yield from comparison.confirm(store, account, [name])
