"""Holds: usage.limit_rounds

Ingest confirms in Redis what workers counted, once; and counts that Redis does not know begin with PostgreSQL's usage.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from accounts.models import Account
from gateway_core import ids
from gateway_core.limits import names
from gateway_core.limits.counting import Ask, Count
from gateway_core.limits.limit import Limit, Measure, Period, identity
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import window_at
from gateway_core.usage_events import Counted, UsageEvent
from snapshots.redis_client import keys
from tests.events import an_event
from tests.fixtures import Api
from usage import limit_rounds
from usage.models import LimitRound

pytestmark = pytest.mark.django_db

DAILY = Limit(measure=Measure.COST, amount=10**9, period=Period.DAY)
WORKER = "aiw_01h455vb4pex5vsknk084sn02q"
# What `an_event` costs, in billionths of a dollar.
COST = 3_500_000
WIRE = {
    Measure.COST: {"measure": "cost", "amount": "1.00", "window": "day"},
    Measure.TOKENS: {"measure": "tokens", "amount": 10**6, "window": "total"},
    Measure.REQUESTS: {"measure": "requests", "amount": 10, "window": "minute"},
    Measure.INPUT_TOKENS: {
        "measure": "inputTokens",
        "amount": 10**6,
        "window": "month",
        "counts": {"models": ["OpenAI:GPT-4o"], "keySources": ["ngrok"]},
    },
}


@pytest.fixture
def in_epoch(redis: Redis) -> None:
    redis.hset(keys().epoch, mapping={"id": "e1", "complete": 1, "number": 0})


def counted(life: str, amount: int, *, turn: int = 1) -> Counted:
    start = window_at(DAILY, time.time_ns() // 1000).start // 1_000_000
    return Counted("key", Measure.COST, int(identity(DAILY), 16), start, int(life or 0), turn, amount)


def ask(redis: Redis, owner: str, used: int) -> str:
    """A worker's report; returns the life of the count."""
    name = str(CountName(owner, identity(DAILY), counted("", 0).start))
    script = redis.register_script(names.script("ask"))
    answers: Any = script(
        keys=[names.marker(keys()), names.wanted(keys()), f"{keys().prefix}limit:{name}"],
        args=[keys().epoch, f"{WORKER}.1", "c", name, 2**52, 3600, "", *Ask(time.time_ns(), used, 0), DAILY.amount],
    )
    return str(answers[1][2].decode())


def count_of(redis: Redis, owner: str) -> Count:
    key = names.count(keys(), CountName(owner, identity(DAILY), counted("", 0).start))
    found: Any = redis.hgetall(key)
    return Count.of({name.decode(): value.decode() for name, value in found.items()})


def test_what_a_worker_counted_is_corrected_and_counts_once(
    redis: Redis, account: Account, emit: Callable[..., int], in_epoch: None
) -> None:
    first = an_event(account)
    life = ask(redis, first.access_key, 2 * COST)
    events = [
        _with(first, counted=(counted(life, 2 * COST),)),
        # Of an earlier life of the count: only the usage counts.
        _with(an_event(account, access_key=first.access_key), counted=(counted("1", COST, turn=7),)),
    ]
    assert emit(events) == 2
    assert emit(events) == 0
    assert LimitRound.objects.count() == 1

    assert limit_rounds.send(redis) == 1
    assert not LimitRound.objects.exists()
    assert limit_rounds.send(redis) == 0

    found = count_of(redis, first.access_key)
    assert found.base == 2 * COST
    assert found.used() == 2 * COST


def _with(event: UsageEvent, **fields: Any) -> UsageEvent:
    import msgspec

    return msgspec.structs.replace(event, counted_by=WORKER, **fields)


def test_a_round_that_redis_took_before_the_row_was_deleted_counts_once(
    redis: Redis, account: Account, emit: Callable[..., int], in_epoch: None
) -> None:
    event = an_event(account)
    life = ask(redis, event.access_key, COST)
    emit([_with(event, counted=(counted(life, COST),))])
    (row,) = LimitRound.objects.all()
    limit_rounds.send(redis)
    LimitRound(id=row.id, added=row.added).save(force_insert=True)

    limit_rounds.send(redis)

    assert count_of(redis, event.access_key).used() == COST


def test_a_count_that_redis_missed_begins_with_the_usage_of_its_window(
    api: Api, account: Account, redis: Redis, emit: Callable[..., int], in_epoch: None
) -> None:
    made = api.post("/access-keys", {"limits": list(WIRE.values())}).json()
    now = time.time_ns() // 1000
    own = {"access_key": made["id"]}
    emit(
        [
            an_event(account, **own),
            an_event(account, model="gpt-4o-2024-11-20", **own),
            an_event(account, is_final=False, **own),
            an_event(account, key_source="none", provider="mine", **own),
            an_event(account, at=now - 32 * 86_400 * 10**6 // 2, **own),
            an_event(account),
        ]
    )
    # Of an event of half a month ago it depends on the day whether the month has it.
    in_month = sum(
        window_at(Limit(measure=Measure.COST, amount=1, period=Period.MONTH), now).start <= at
        for at in (now - 10**6, now - 10**6, now - 16 * 86_400 * 10**6)
    )
    wanted = _wanted(redis, made["id"])

    assert limit_rounds.open_wanted(redis) == 4

    assert not redis.scard(names.wanted(keys()))
    bases = {measure: Count.of(_fields(redis, name)).base for measure, name in wanted.items()}
    assert bases[Measure.COST] == 3 * COST
    assert bases[Measure.TOKENS] == 5 * 1100
    assert bases[Measure.INPUT_TOKENS] == in_month * 1000
    assert bases[Measure.REQUESTS] == 3
    rate = _fields(redis, wanted[Measure.REQUESTS])
    assert 10**6 < int(rate["empty_at"]) - time.time_ns() // 1000 <= 18 * 10**6
    assert limit_rounds.open_wanted(redis) == 0


def _wanted(redis: Redis, owner: str) -> dict[Measure, CountName]:
    from access_keys.models import AccessKey
    from account_settings.limits import limits_of

    (row,) = AccessKey.objects.all()
    assert row.text_id == owner
    found = {}
    for limit in limits_of(row.limits):
        start = window_at(limit, time.time_ns() // 1000).start // 1_000_000
        found[limit.measure] = CountName(owner, identity(limit), start)
        redis.sadd(names.wanted(keys()), str(found[limit.measure]))
    return found


def _fields(redis: Redis, name: CountName) -> dict[str, str]:
    found: Any = redis.hgetall(names.count(keys(), name))
    return {key.decode(): value.decode() for key, value in found.items()}


def test_what_is_wanted_and_belongs_to_nobody_is_forgotten(redis: Redis, account: Account, in_epoch: None) -> None:
    gone = CountName(ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id()), "0" * 15, 0)
    redis.sadd(names.wanted(keys()), str(gone), "nonsense", f"{account.text_id}:{'0' * 15}:0", "x:y:1")

    assert limit_rounds.open_wanted(redis) == 0
    assert not redis.scard(names.wanted(keys()))


def test_usage_outside_of_limits_makes_no_round(account: Account, emit: Callable[..., int]) -> None:
    assert emit([an_event(account)]) == 1
    assert not LimitRound.objects.exists()
