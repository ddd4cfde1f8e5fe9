"""Write usage events from the stream in Redis to the tables. Each event counts once, even if a process is killed.

A round reads batches through a consumer group, writes them in one transaction, and acknowledges them after its commit.
Killed before the commit, nothing was written; killed after it, the batches come again and their events are found to be
there already. What an event changes beside its own row (sums, credits) is written in the same statement or
transaction, for those events alone that were really added.

Rounds take turns by a lock in PostgreSQL. What a dead process has read and not acknowledged is claimed after five
seconds.

Source: docs/decisions/0061-ingest.md.
"""

import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone
from redis import Redis
from redis.exceptions import ResponseError

from access_keys.models import AccessKey
from accounts.owned.last_used import note_uses
from gateway_core import ids
from gateway_core.failover import is_failover_status
from gateway_core.usage_events import BATCH_FIELD, OTHER_COUNTS, BatchRefused, UsageEvent, open_batch
from provider_keys.key_health import KeyOutcomes, note_outcomes
from provider_keys.models import ProviderKey
from providers import price_refresh
from snapshots.redis_client import document_keys, keys
from usage import ledger, limit_rounds, partitions
from usage.costs import cost_of
from usage.models import CENT_PLACES

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

GROUP: Final = "ingest"
# The entries of the stream that one round reads. An entry has at most 200 events.
_ENTRIES: Final = 30
# A consumer that does not acknowledge for this long counts as dead. If it is alive, its events still count only once.
CLAIM_MILLISECONDS: Final = 5_000
# After this time without activity, a consumer that has nothing pending is removed.
_FORGET_MILLISECONDS: Final = 3_600_000
# A batch may be this old, after a long outage; older ones might have been forgotten already. And a worker's clock may
# be this far ahead.
MAXIMUM_AGE: Final = timedelta(days=31)
MAXIMUM_LEAD: Final = timedelta(minutes=10)
# A process that stands still loses its session, and with it the lock.
_BOUNDS: Final = "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL statement_timeout = '30s'"
_SUCCESS: Final = range(200, 300)
_SMALLEST_CENT: Final = Decimal(1).scaleb(-CENT_PLACES)

Entry = tuple[bytes, Mapping[bytes, bytes]]


@dataclass(frozen=True)
class Round:
    """What a round found and did."""

    entries: int = 0
    events: int = 0
    added: int = 0


class Ingest:
    """One consumer of the stream. Not for several threads."""

    def __init__(self, redis: "Redis", *, consumer: str | None = None) -> None:
        """
        Args:
            redis: answers in bytes.
            consumer: the consumer's name, of this process alone; made up if None.
        """
        self._redis = redis
        self._stream = keys().usage
        self._consumer = consumer or f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(4)}"

    def run(self, *, seconds: float, block_milliseconds: int | None = None) -> int:
        """Run rounds until the stream is empty or the time is over. Returns the number of added events.

        Args:
            seconds: how long at most; a round that has begun is ended.
            block_milliseconds: wait so long for the first entry of a round; None not at all.

        Raises:
            RedisError: Redis did not answer. Entries that are not acknowledged are read again later.
        """
        added = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done = self.round(block_milliseconds=block_milliseconds)
            added += done.added
            if not done.entries and block_milliseconds is None:
                break
        return added

    def round(self, *, block_milliseconds: int | None = None) -> Round:
        """Read one round of entries, write their events, and acknowledge the entries."""
        entries = self._read(block_milliseconds)
        if not entries:
            return Round()
        events = [event for batch in self._open(entries) for event in batch]
        added = self._write(events)
        self._acknowledge([entry for entry, _ in entries])
        return Round(len(entries), len(events), added)

    def _read(self, block_milliseconds: int | None) -> list[Entry]:
        try:
            return self._claim() or self._next(block_milliseconds)
        except ResponseError as fault:
            # A new Redis, or one that lost something: the group begins with what the stream holds.
            if "NOGROUP" not in str(fault):
                raise
            self._make_group()
            return self._next(block_milliseconds)

    def _next(self, block_milliseconds: int | None) -> list[Entry]:
        answer: Any = self._redis.xreadgroup(
            GROUP, self._consumer, {self._stream: ">"}, count=_ENTRIES, block=block_milliseconds
        )
        return answer[0][1] if answer else []

    def _claim(self) -> list[Entry]:
        """Claim the entries that a dead consumer left pending."""
        answer: Any = self._redis.xautoclaim(
            self._stream, GROUP, self._consumer, CLAIM_MILLISECONDS, start_id="0-0", count=_ENTRIES
        )
        claimed = [(entry, fields) for entry, fields in answer[1] if fields]
        if len(claimed) < len(answer[1]):
            self._give_up({entry for entry, _ in claimed})
        if claimed:
            log.info("usage that another process left is taken over", entries=len(claimed))
        return claimed

    def _give_up(self, present: set[bytes]) -> None:
        """Acknowledge what is pending here and no longer in the stream; Redis 6.2 does not name such entries."""
        pending: Any = self._redis.xpending_range(
            self._stream, GROUP, min="-", max="+", count=10 * _ENTRIES, consumername=self._consumer
        )
        gone = [one["message_id"] for one in pending if one["message_id"] not in present]
        if gone:
            log.error("usage batches were trimmed from the stream before they were written", entries=len(gone))
            self._redis.xack(self._stream, GROUP, *gone)

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as fault:
            if "BUSYGROUP" not in str(fault):
                raise

    def _open(self, entries: Iterable[Entry]) -> Iterator[list[UsageEvent]]:
        now = timezone.now()
        oldest = _microseconds(now - MAXIMUM_AGE)
        newest = _microseconds(now + MAXIMUM_LEAD)
        for entry, fields in entries:
            try:
                batch = open_batch(keys(), document_keys(), fields.get(BATCH_FIELD.encode(), b""))
            except BatchRefused as refusal:
                log.error("a usage batch is refused", entry=entry.decode(), reason=str(refusal))  # noqa: TRY400 -- a refusal, not our fault
                continue
            timely = [event for event in batch.events if oldest <= event.time <= newest]
            if len(timely) < len(batch.events):
                log.error(
                    "usage events are refused: too old, or of a clock that is ahead",
                    worker=batch.worker,
                    events=len(batch.events) - len(timely),
                )
            yield timely

    def _write(self, events: Sequence[UsageEvent]) -> int:
        try:
            return write(events)
        except (DataError, IntegrityError):
            if len(events) == 1:
                # Decoding should have refused it. It must not hold up all others for ever.
                log.exception("a usage event cannot be written and is set aside", event_id=events[0].id)
                return 0
        middle = len(events) // 2
        return self._write(events[:middle]) + self._write(events[middle:])

    def _acknowledge(self, entries: Sequence[bytes]) -> None:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(self._stream, GROUP, *entries)
            pipeline.xdel(self._stream, *entries)
            pipeline.execute()


def forget_consumers(redis: "Redis") -> None:
    """Take consumers of processes that ended long ago out of the group; what they left has been claimed by then."""
    stream = keys().usage
    try:
        consumers: Any = redis.xinfo_consumers(stream, GROUP)
    except ResponseError:
        return  # no stream, or no group yet
    for one in consumers:
        if not one["pending"] and one["idle"] > _FORGET_MILLISECONDS:
            redis.xgroup_delconsumer(stream, GROUP, one["name"])


@transaction.atomic
def write(events: Sequence[UsageEvent]) -> int:
    """Add events to the tables; known events are ignored. Returns the number of new events."""
    if not events:
        return 0
    price_refresh.follow()
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS)
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [limit_rounds.INGEST_LOCK])
        partitions.make({partitions.month_of(_moment(event)) for event in events})
        cursor.execute(_INCOMING)
        # Django names the errors of its own calls only.
        with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
            for event in events:
                copy.write_row(_row(event))
        counted = {ids.from_text(ids.Prefix.USAGE_EVENT, event.id): event for event in events if event.counted}
        cursor.execute(_ADD, [list(counted)])
        added, due = 0, {}
        news: list[UsageEvent] = []
        for account, count, cents, of_limits in cursor.fetchall():
            added += count
            due[account] = cents
            news += (counted[one] for one in of_limits or ())
        cursor.execute("TRUNCATE usage_incoming")
    note_uses(AccessKey, last_uses(events, lambda event: event.access_key, ids.Prefix.ACCESS_KEY))
    note_uses(ProviderKey, last_uses(events, lambda event: event.provider_key, ids.Prefix.PROVIDER_KEY))
    note_outcomes(key_outcomes(events))
    ledger.charge(due)
    limit_rounds.note(news)
    return added


def last_uses(
    events: Iterable[UsageEvent], key_of: Callable[[UsageEvent], str | None], prefix: ids.Prefix
) -> dict[tuple[uuid.UUID, uuid.UUID], datetime]:
    """When each key was last used, by key and account, in the order of the keys.

    Args:
        events: in any order.
        key_of: the key's text ID in an event; None where it used none.
        prefix: of the key's ID.
    """
    newest: dict[tuple[str, str], UsageEvent] = {}
    for event in events:
        key = key_of(event)
        if key is not None and _is_newer(event, newest.get((key, event.account))):
            newest[key, event.account] = event
    return {
        (ids.from_text(prefix, key), ids.from_text(ids.Prefix.ACCOUNT, account)): _moment(event)
        for (key, account), event in sorted(newest.items())
    }


def key_outcomes(events: Iterable[UsageEvent]) -> list[KeyOutcomes]:
    """The newest success and the newest refusal of each value of a provider key."""
    successes: dict[tuple[str, str, str], UsageEvent] = {}
    refusals: dict[tuple[str, str, str], UsageEvent] = {}
    for event in events:
        if event.is_error:
            found = refusals if is_failover_status(_meant(event)) else None
        else:
            found = successes if event.status in _SUCCESS else None
        if event.provider_key is None or event.mask is None or found is None:
            continue
        value = event.provider_key, event.account, event.mask
        if _is_newer(event, found.get(value)):
            found[value] = event
    return [
        KeyOutcomes(
            provider_key=ids.from_text(ids.Prefix.PROVIDER_KEY, key),
            account=ids.from_text(ids.Prefix.ACCOUNT, account),
            mask=mask,
            success_at=_moment(success) if (success := successes.get((key, account, mask))) else None,
            refusal_at=_moment(refusal) if (refusal := refusals.get((key, account, mask))) else None,
            refusal_status=_meant(refusal) if refusal else None,
        )
        for key, account, mask in sorted(successes.keys() | refusals.keys())
    ]


def _meant(event: UsageEvent) -> int:
    """The status by which a key's health goes."""
    return event.meant_status or event.status


def _is_newer(event: UsageEvent, other: UsageEvent | None) -> bool:
    return other is None or event.time > other.time


def charge_of(event: UsageEvent, cost: Decimal) -> Decimal:
    """The cents that an attempt takes from the account's credits.

    The list price where the operator paid the upstream, and the gateway's processing fee whoever paid.

    Source: docs/decisions/0063-credits.md.
    """
    fee = settings.PROCESSING_FEE_CENTS * (event.input_tokens + event.output_tokens) / 1_000_000
    price = cost * 100 if event.key_source == "ngrok" else Decimal(0)
    return (price + fee).quantize(_SMALLEST_CENT)


def _row(event: UsageEvent) -> tuple[Any, ...]:
    cost = cost_of(event)
    return (
        ids.from_text(ids.Prefix.USAGE_EVENT, event.id),
        _moment(event),
        ids.from_text(ids.Prefix.ACCOUNT, event.account),
        ids.from_text(ids.Prefix.ACCESS_KEY, event.access_key),
        ids.from_text(ids.Prefix.PROVIDER_KEY, event.provider_key) if event.provider_key else None,
        cost,
        charge_of(event, cost),
        event.attempt,
        event.input_tokens,
        event.output_tokens,
        event.cache_read_tokens,
        event.cache_write_tokens,
        event.reasoning_tokens,
        event.duration_ms,
        event.status,
        event.is_final,
        event.timed_out,
        event.is_error,
        event.is_streaming,
        event.key_source,
        event.request_id,
        event.provider,
        event.model,
        event.requested_model,
        event.stop_reason,
        event.mask,
        event.first_byte_ms,
        None if event.requested_at is None else _moment_of(event.requested_at),
        None if event.trace is None else msgspec.json.encode(event.trace).decode(),
        _kinds(event),
        event.service_tier or None,
        event.usage_estimated or None,
    )


# Counts that have no column of their own, by wire name.
_KINDS: Final = {
    field.encode_name: field.name for field in msgspec.structs.fields(UsageEvent) if field.name in OTHER_COUNTS
}


def _kinds(event: UsageEvent) -> str | None:
    found = {wire: count for wire, name in _KINDS.items() if (count := getattr(event, name))}
    return msgspec.json.encode(found).decode() if found else None


def _moment(event: UsageEvent) -> datetime:
    return _moment_of(event.time)


def _moment_of(time: int) -> datetime:
    seconds, microseconds = divmod(time, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


COLUMNS: Final = (
    "id, event_time, account_id, access_key_id, provider_key_id, cost, charge, attempt, input_tokens, output_tokens, "
    "cache_read_tokens, cache_write_tokens, reasoning_tokens, duration_ms, status, is_final, timed_out, is_error, "
    "is_streaming, key_source, request_id, provider, model, requested_model, stop_reason, mask, first_byte_ms, "
    "requested_at, trace, kinds, service_tier, usage_estimated"
)
# Each database session has one. The end of a round's transaction empties it.
_INCOMING: Final = "CREATE TEMPORARY TABLE IF NOT EXISTS usage_incoming (LIKE usage_event) ON COMMIT DELETE ROWS"
_COPY: Final = f"COPY usage_incoming ({COLUMNS}) FROM STDIN"

# What is added, and all sums over it, in one statement. Sums are written in the order of their key, so that two
# writers could not lock each other out even without the lock above. Accounts that are gone leave no usage.
_SUM: Final = """
    INSERT INTO usage_rollup (
        account_id, dimension, span, start, group_key, cost, requests, errors, input_tokens, output_tokens
    )
    SELECT account_id, dimension, span, start, group_key, sum(cost),
           count(*) FILTER (WHERE is_final), count(*) FILTER (WHERE is_final AND is_error),
           sum(input_tokens), sum(output_tokens)
    FROM added
    CROSS JOIN LATERAL (VALUES ('p', provider), ('k', access_key_id::text)) AS by_dimension (dimension, group_key)
    CROSS JOIN LATERAL (
        VALUES ('d', date_trunc('day', event_time, 'UTC')), ('h', date_trunc('hour', event_time, 'UTC'))
    ) AS by_span (span, start)
    GROUP BY account_id, dimension, span, start, group_key
    ORDER BY account_id, dimension, span, start, group_key
    ON CONFLICT (account_id, dimension, span, start, group_key) DO UPDATE
    SET cost = usage_rollup.cost + EXCLUDED.cost,
        requests = usage_rollup.requests + EXCLUDED.requests,
        errors = usage_rollup.errors + EXCLUDED.errors,
        input_tokens = usage_rollup.input_tokens + EXCLUDED.input_tokens,
        output_tokens = usage_rollup.output_tokens + EXCLUDED.output_tokens
"""
_ADD: Final = f"""
WITH added AS (
    INSERT INTO usage_event ({COLUMNS})
    SELECT {COLUMNS} FROM usage_incoming
    WHERE EXISTS (SELECT FROM accounts_account WHERE accounts_account.id = usage_incoming.account_id)
    ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING id, account_id, access_key_id, provider, event_time, is_final, is_error, cost, charge, input_tokens,
              output_tokens
), summed AS ({_SUM})
SELECT account_id, count(*), sum(charge), array_agg(id) FILTER (WHERE id = ANY(%s)) FROM added GROUP BY account_id
"""  # noqa: S608 -- our own column names
# For events that were loaded without their sums (benchmarks/usage.py): everything since a moment.
SUM_ALL: Final = f"WITH added AS (SELECT * FROM usage_event WHERE event_time >= %s) {_SUM}"  # noqa: S608
