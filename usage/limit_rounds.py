"""Bring what ingest has written to the counts of limits in Redis, and begin counts that Redis does not know.

A round of ingest notes what it added to which counts, in its own transaction. The rounds go to Redis in their order;
each count takes a round once. A count that a worker missed in Redis begins with the sum of the events in PostgreSQL,
read while no round is under way.

Source: docs/decisions/0120-limits.md.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import structlog
from django.db import connection, transaction
from django.utils import timezone
from redis import Redis

from access_keys.models import AccessKey
from account_settings.limits import limits_of
from account_settings.models import GatewayConfiguration
from gateway_core import ids
from gateway_core.limits import names, rates
from gateway_core.limits.limit import Limit, Measure, Used, identity, in_billionths
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import NEVER, Window, window_at
from gateway_core.usage_events import UsageEvent
from snapshots.redis_client import keys
from usage.costs import cost_of
from usage.models import LimitRound

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Taken by a round of ingest for its transaction, and where events are summed for a count.
INGEST_LOCK: Final = 0x75736167_65696E67
_SEND_LOCK: Final = 0x75736167_65726E64
_ROUNDS_AT_ONCE: Final = 50
_COUNTS_AT_ONCE: Final = 200
_WANTED_AT_ONCE: Final = 50
_SECOND: Final = 1_000_000
# As data_plane.limits.shares has it.
_AFTERWARDS: Final = 2 * 86_400
_KEPT: Final = 31 * 86_400
_MINUTE: Final = timedelta(minutes=1)


def note(events: Iterable[UsageEvent]) -> None:
    """Note what events add to the counts that they are in. Called in the transaction that adds them."""
    added: dict[tuple[str, str, str], list[int]] = {}
    for event in events:
        used = Used(in_billionths(cost_of(event)), event.input_tokens, event.output_tokens, int(event.is_final))
        for one in event.counted:
            owner = event.access_key if one.owner == "key" else event.account
            name = str(CountName(owner, f"{one.identity:015x}", one.start))
            sums = added.setdefault((name, f"{event.counted_by}.{one.turn}", str(one.life)), [0, 0])
            sums[0] += used.of(one.measure)
            sums[1] += one.amount
    if added:
        LimitRound.objects.create(added=[[*place, *sums] for place, sums in added.items()])


def send(redis: "Redis") -> int:
    """Send the rounds that Redis has not taken, the oldest first. Returns how many.

    Raises:
        RedisError: Redis did not answer. The rest is sent later.
    """
    script = redis.register_script(names.script("confirm"))
    sent = 0
    while True:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SEND_LOCK])
                if not cursor.fetchone()[0]:
                    return sent  # another process is sending
            rounds = list(LimitRound.objects.order_by("id")[:_ROUNDS_AT_ONCE])
            for one in rounds:
                _send(script, one)
            LimitRound.objects.filter(id__in=[one.id for one in rounds]).delete()
        sent += len(rounds)
        if len(rounds) < _ROUNDS_AT_ONCE:
            return sent


def _send(script: Any, round_: LimitRound) -> None:
    by_name: dict[str, list[list[Any]]] = {}
    for name, *of_worker in round_.added:
        by_name.setdefault(name, []).append(of_worker)
    counts = list(by_name.items())
    for at in range(0, len(counts), _COUNTS_AT_ONCE):
        some = counts[at : at + _COUNTS_AT_ONCE]
        arguments: list[Any] = [round_.id]
        for _, workers in some:
            arguments += (len(workers), *(part for worker in workers for part in worker))
        script(keys=[names.count(keys(), CountName.parse(name)) for name, _ in some], args=arguments)


def open_wanted(redis: "Redis") -> int:
    """Begin counts that workers have missed in Redis. Returns how many.

    Raises:
        RedisError: Redis did not answer.
    """
    found: Any = redis.srandmember(names.wanted(keys()), _WANTED_AT_ONCE)
    wanted = []
    for text in found:
        try:
            wanted.append(CountName.parse(text.decode()))
        except ValueError:
            redis.srem(names.wanted(keys()), text)
    if not wanted:
        return 0
    opened = 0
    script = redis.register_script(names.script("open"))
    with transaction.atomic(), connection.cursor() as cursor:
        # No round commits meanwhile: what is summed is what the rounds until now have added.
        cursor.execute("SET LOCAL statement_timeout = '30s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INGEST_LOCK])
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM usage_limitround_id_seq")
        newest = cursor.fetchone()[0]
        for name in wanted:
            count = _Opening.of(name)
            if count is None:
                redis.srem(names.wanted(keys()), str(name))
                continue
            used = count.used()
            opened += script(
                keys=[keys().epoch, names.wanted(keys()), names.count(keys(), name)],
                args=[str(name), used, newest, count.kept_seconds, count.empty_at(used)],
            ) == 1  # fmt: skip
    if opened:
        log.info("counts of limits were begun from the usage", counts=opened)
    return opened


@dataclass(frozen=True)
class _Opening:
    """A count that begins: whose it is, of which limit, in which window."""

    owner: uuid.UUID
    is_of_key: bool
    limit: Limit
    window: Window

    @classmethod
    def of(cls, name: CountName) -> "_Opening | None":
        """The count of this name; None where its owner, or such a limit of it, is gone."""
        prefix = ids.Prefix.ACCESS_KEY if name.owner.startswith(f"{ids.Prefix.ACCESS_KEY}_") else ids.Prefix.ACCOUNT
        try:
            owner = ids.from_text(prefix, name.owner)
        except ids.InvalidId:
            return None
        is_of_key = prefix is ids.Prefix.ACCESS_KEY
        limit = next((one for one in _limits_of(owner, is_of_key=is_of_key) if identity(one) == name.identity), None)
        if limit is None:
            return None
        return cls(owner, is_of_key, limit, window_at(limit, name.start * _SECOND))

    @property
    def kept_seconds(self) -> int:
        if self.window.end == NEVER:
            return _KEPT
        left = self.window.end // _SECOND - int(timezone.now().timestamp())
        return max(left, 0) + _AFTERWARDS

    def empty_at(self, used: int) -> str | int:
        """When a rate's bucket is empty again, in microseconds since 1970; "" for any other limit."""
        if not self.limit.is_rate:
            return ""
        now = int(timezone.now().timestamp() * _SECOND)
        return now + used * rates.interval(self.limit.amount_at(now))

    def used(self) -> int:
        """What the events in PostgreSQL say, in the limit's unit."""
        where = ["access_key_id = %s" if self.is_of_key else "account_id = %s"]
        values: list[Any] = [self.owner]
        if self.limit.is_rate:
            where.append("event_time > %s")
            values.append(timezone.now() - _MINUTE)
        elif self.window.end != NEVER:
            where.append("event_time >= %s AND event_time < %s")
            values += (_moment(self.window.start), _moment(self.window.end))
        elif self.limit.counts is None:
            return self._from_rollups()
        self._filter(where, values)
        statement = f"SELECT {_SUMS[self.limit.measure]} FROM usage_event WHERE {' AND '.join(where)}"  # noqa: S608 -- our own
        return self._sum(statement, values)

    def _from_rollups(self) -> int:
        """Of all time: from the sums of days, which are few."""
        if self.is_of_key:
            where, values = "dimension = 'k' AND group_key = %s", [str(self.owner)]
            account = AccessKey.objects.values_list("account_id", flat=True).get(id=self.owner)
        else:
            where, values, account = "dimension = 'p'", [], self.owner
        measure = _ROLLUP_SUMS[self.limit.measure]
        statement = f"SELECT {measure} FROM usage_rollup WHERE account_id = %s AND span = 'd' AND {where}"  # noqa: S608 -- our own
        return self._sum(statement, [account, *values])

    def _filter(self, where: list[str], values: list[Any]) -> None:
        counts = self.limit.counts
        if counts is None:
            return
        if counts.providers is not None:
            where.append("provider = ANY(%s)")
            values.append(list(counts.providers))
        if counts.models is not None:
            where.append("(lower(model) = ANY(%s) OR provider || ':' || lower(model) = ANY(%s))")
            folded = [one.casefold() for one in counts.models]
            values += (folded, folded)
        if counts.key_sources is not None:
            where.append("(CASE key_source WHEN 'ngrok' THEN 'ngrok' ELSE 'user' END) = ANY(%s)")
            values.append(list(counts.key_sources))

    def _sum(self, statement: str, values: Sequence[Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            found = cursor.fetchone()[0]
        if self.limit.measure is Measure.COST:
            return in_billionths(Decimal(found or 0))
        return int(found or 0)


_SUMS: Final = {
    Measure.COST: "sum(cost)",
    Measure.TOKENS: "sum(input_tokens::bigint + output_tokens)",
    Measure.INPUT_TOKENS: "sum(input_tokens)",
    Measure.OUTPUT_TOKENS: "sum(output_tokens)",
    Measure.REQUESTS: "count(*) FILTER (WHERE is_final)",
    Measure.CONCURRENCY: "0",
}
_ROLLUP_SUMS: Final = {
    **_SUMS,
    Measure.TOKENS: "sum(input_tokens + output_tokens)",
    Measure.REQUESTS: "sum(requests)",
}


def _limits_of(owner: uuid.UUID, *, is_of_key: bool) -> tuple[Limit, ...]:
    if not is_of_key:
        return limits_of(GatewayConfiguration.objects.filter(account_id=owner).values_list("limits", flat=True).first())
    found = AccessKey.objects.filter(id=owner).values_list("account_id", "limits").first()
    if found is None:
        return ()
    account, own = found
    if own is None:
        own = (
            GatewayConfiguration.objects.filter(account_id=account).values_list("access_key_limits", flat=True).first()
        )
    return limits_of(own)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // _SECOND, UTC)
