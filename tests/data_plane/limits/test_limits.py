"""Holds: data_plane.limits, data_plane.forwarding.limiting

Requests under limits, through real workers and Redis: what passes, what is refused and how, what is given back.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from gateway_core import ids
from gateway_core.limits import names
from gateway_core.limits.counting import Count
from gateway_core.limits.limit import DOLLAR, Counts, Limit, Measure, Mode, Period
from gateway_core.snapshot import Keys
from local.stand_in import StandIn
from tests.patience import eventually
from tests.tiers import number
from tests.workers import Client, Running, SnapshotWriter, Tenant, running, settings_of

KEYS = Keys("gw")
CONCURRENCY = Limit(measure=Measure.CONCURRENCY, amount=1)


def limit(measure: Measure, amount: int, period: Period = Period.HOUR, **more: Any) -> Limit:
    return Limit(measure=measure, amount=amount, period=period, **more)


@pytest.fixture
def alice(writer: SnapshotWriter) -> Tenant:
    """An account with a provider key."""
    tenant = writer.tenant()
    tenant.keys("sk-alices-own-0123456789")
    return tenant


@pytest.fixture(autouse=True)
def redis_has_counted_for_long(redis: Redis, writer: SnapshotWriter) -> None:
    """As after some hours: windows that began a while ago were counted from their beginning."""
    redis.hset(names.marker(KEYS), mapping={"epoch": writer.epoch, "since": 1, "seen": 1})


def counts_of(redis: Redis) -> dict[str, Count]:
    """Every count in Redis, by its name."""
    found: Any = redis
    return {
        key.decode().removeprefix("{gw}:limit:"): Count.of(
            {name.decode(): value.decode() for name, value in found.hgetall(key).items()}
        )
        for key in found.scan_iter("{gw}:limit:*")
    }


async def test_requests_pass_up_to_the_amount_and_no_further(client: Client, alice: Tenant, redis: Redis) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 3),))

    assert [await client.status(token) for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = await client.chat(token)
    assert refused.code == "limit_exceeded"
    assert "requests in an hour" in refused.json()["error"]["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    (count,) = counts_of(redis).values()
    assert count.used() + count.reserved(0) <= 3


async def test_a_refusal_comes_in_the_callers_format(client: Client, alice: Tenant) -> None:
    alice.keys("sk-ant-alices-own-0123456789", provider="anthropic")
    token = alice.token(limits=(limit(Measure.INPUT_TOKENS, 1),))

    refused = await client.message(token)

    assert refused.status == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.headers["gateway-error"] == "limit_exceeded"


async def test_workers_share_one_limit(make_worker: Callable[..., Any], alice: Tenant, redis: Redis) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 40),))
    workers: list[Running] = [await make_worker() for _ in range(3)]

    statuses = await asyncio.gather(*(workers[number % 3].client.status(token) for number in range(90)))

    assert statuses.count(200) == 40
    assert statuses.count(429) == 50
    await eventually(lambda: [count.used() for count in counts_of(redis).values()] == [40])


async def test_what_was_reserved_and_not_used_is_given_back(client: Client, alice: Tenant, redis: Redis) -> None:
    """A request reserves its maximum of 500 output tokens, and its answer has a few."""
    token = alice.token(limits=(limit(Measure.OUTPUT_TOKENS, 1000),))

    for _ in range(5):
        assert (await client.chat(token, max_tokens=500)).status == 200
    assert (await client.chat(token, max_tokens=1001)).status == 429


@pytest.mark.parametrize("maximum", [-1, -9_000_000])
async def test_a_maximum_below_zero_makes_no_room(
    client: Client, alice: Tenant, redis: Redis, upstream: StandIn, maximum: int
) -> None:
    token = alice.token(limits=(limit(Measure.TOKENS, 1000),))

    # Such a maximum is none, and what a request without one reserves does not fit.
    assert (await client.chat(token, max_tokens=maximum)).status == 429
    assert upstream.calls == []
    assert (await client.chat(token, max_tokens=20)).status == 200


@pytest.mark.parametrize("queue", ["nan", "-1", "soon", "0"])
async def test_a_queue_without_a_time_is_none(client: Client, alice: Tenant, upstream: StandIn, queue: str) -> None:
    alice.keys("sk-demo-hang-0123456789")
    token = alice.token(limits=(limit(Measure.CONCURRENCY, 1, Period.NONE),))
    first = asyncio.create_task(client.chat(token))
    await eventually(lambda: upstream.calls)

    refused = await client.chat(token, headers={"gateway-queue": queue})

    assert (refused.status, refused.code) == (429, "limit_exceeded")
    first.cancel()


async def test_a_cost_is_reserved_and_counted_at_the_models_price(
    client: Client, alice: Tenant, redis: Redis, writer: SnapshotWriter
) -> None:
    token = alice.token(limits=(limit(Measure.COST, DOLLAR // 100, Period.MONTH),))
    # gpt-4o: 10 dollars for a million output tokens.
    assert (await client.chat(token, max_tokens=2000)).status == 429
    assert (await client.chat(token, max_tokens=500)).status == 200

    (event,) = await writer.usage_of(1)
    (counted,) = event.counted
    assert counted.amount == event.input_tokens * 2500 + event.output_tokens * 10_000
    assert counted.owner == "key"
    assert event.counted_by
    await eventually(lambda: [count.used() for count in counts_of(redis).values()] == [counted.amount])


async def test_a_model_without_a_price_is_refused_under_a_limit_on_cost(
    client: Client, alice: Tenant, upstream: StandIn
) -> None:
    alice.provider("mine", upstream.url)
    dear = limit(Measure.COST, DOLLAR)

    refused = await client.chat(alice.token(limits=(dear,)), model="mine:some-model")
    assert (refused.status, refused.code) == (403, "model_unpriced")
    assert (
        await client.chat(alice.token(limits=(limit(Measure.TOKENS, 10**6),)), model="mine:some-model")
    ).status == 200
    # Another candidate of the request has a price.
    both = await client.chat(alice.token(limits=(dear,)), model="mine:some-model", models=["openai:gpt-4o"])
    assert (both.status, both.headers["gateway-provider"]) == (200, "openai")


async def test_a_request_without_a_maximum_gets_one(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn
) -> None:
    worker = await make_worker()
    token = alice.token(limits=(limit(Measure.TOKENS, 10**9),))

    assert (await worker.client.chat(token)).status == 200

    assert upstream.calls[-1].body["max_completion_tokens"] == 16_384


async def test_what_a_limit_does_not_count_passes(client: Client, alice: Tenant) -> None:
    counts = Counts(providers=("openai",))
    token = alice.token(limits=(limit(Measure.REQUESTS, 1, counts=counts),))
    alice.keys("sk-ant-alices-own-0123456789", provider="anthropic")

    assert await client.status(token) == 200
    assert await client.status(token) == 429
    assert (await client.message(token)).status == 200
    # A request that may go to both goes to the one that has room.
    both = await client.chat(token, model="openai:gpt-4o", models=["anthropic:claude-sonnet-4-5"])
    assert (both.status, both.headers["gateway-provider"]) == (200, "anthropic")


async def test_limits_of_the_account_hold_for_all_its_keys_together(client: Client, alice: Tenant) -> None:
    alice.settings(limits=(limit(Measure.REQUESTS, 2),))
    one, other = alice.token(), alice.token()

    assert [await client.status(one), await client.status(other)] == [200, 200]
    refused = await client.chat(one)
    assert refused.status == 429
    assert "This account" in refused.json()["error"]["message"]
    assert "ratelimit" not in refused.headers


async def test_keys_without_limits_of_their_own_get_those_for_access_keys(client: Client, alice: Tenant) -> None:
    alice.settings(access_key_limits=(limit(Measure.REQUESTS, 1),))
    one, other, own = alice.token(), alice.token(), alice.token(limits=())

    assert [await client.status(one), await client.status(one)] == [200, 429]
    assert [await client.status(other), await client.status(other)] == [200, 429]
    assert [await client.status(own), await client.status(own)] == [200, 200]


async def test_a_limit_that_observes_counts_and_refuses_nothing(client: Client, alice: Tenant, redis: Redis) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 1, mode=Mode.OBSERVE),))

    assert [await client.status(token) for _ in range(3)] == [200, 200, 200]
    await eventually(lambda: [count.used() for count in counts_of(redis).values()] == [3])


async def test_a_rate_lets_its_burst_pass_and_says_when_to_come_again(client: Client, alice: Tenant) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 2, Period.MINUTE),))

    assert [await client.status(token) for _ in range(2)] == [200, 200]
    refused = await client.chat(token)
    assert refused.status == 429
    assert 25 <= int(refused.headers["retry-after"]) <= 30


async def test_callers_see_what_is_left_of_their_own_limits(client: Client, alice: Tenant) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 10), limit(Measure.TOKENS, 10**6, Period.DAY)))

    answer = await client.chat(token, max_tokens=10)

    assert '"requests-hour";q=10;w=3600' in answer.headers["ratelimit-policy"]
    assert '"tokens-day";q=1000000;qu="tokens";w=86400' in answer.headers["ratelimit-policy"]
    assert '"requests-hour";r=9;t=' in answer.headers["ratelimit"]
    assert answer.headers["x-ratelimit-limit-requests"] == "10"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


async def test_a_key_without_limits_is_shown_none_and_asks_redis_nothing(worker: Running, alice: Tenant) -> None:
    answer = await worker.client.chat(alice.token())

    assert answer.status == 200
    assert not {"ratelimit", "ratelimit-policy"} & {name.lower() for name in answer.headers}
    assert worker.worker.shares.calls == 0


async def test_without_redis_a_limit_holds_on_what_is_in_hand_and_then_answers_503(
    make_worker: Callable[..., Any], alice: Tenant, redis_url: str, redis: Redis
) -> None:
    worker = await make_worker()
    token = alice.token(limits=(limit(Measure.REQUESTS, 1000),))
    for _ in range(40):
        assert await worker.client.status(token) == 200
    (share,) = worker.worker.shares._shares.values()
    await eventually(lambda: share.free(worker.worker.shares.clock()) > 0)
    before = worker.worker.shares.calls

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("away")

    worker.worker.shares._script = away
    free = share.free(worker.worker.shares.clock())
    answers = [await worker.client.chat(token) for _ in range(free + 1)]
    assert [answer.status for answer in answers] == [200] * free + [503]
    assert answers[-1].code == "limits_unknown"
    assert answers[-1].headers["retry-after"] == "1"
    assert before <= worker.worker.shares.calls


async def test_without_redis_requests_pass_where_the_operator_says_so(
    make_worker: Callable[..., Any], environ: dict[str, str], alice: Tenant
) -> None:
    environ["LIMITS_WITHOUT_REDIS"] = "allow"
    worker = await make_worker()
    token = alice.token(limits=(limit(Measure.REQUESTS, 5),))

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("away")

    worker.worker.shares._script = away
    assert [await worker.client.status(token) for _ in range(7)] == [200] * 7


async def test_a_count_that_redis_does_not_know_is_asked_for_and_waited_for(
    client: Client, alice: Tenant, redis: Redis, writer: SnapshotWriter
) -> None:
    redis.hset(names.marker(KEYS), mapping={"epoch": writer.epoch, "since": 2**52, "seen": 1})
    token = alice.token(limits=(limit(Measure.REQUESTS, 5),))
    asked = asyncio.create_task(client.chat(token))
    wanted: Any = redis.smembers
    await eventually(lambda: bool(wanted(names.wanted(KEYS))))
    (name,) = wanted(names.wanted(KEYS))

    redis.register_script(names.script("open"))(
        keys=[KEYS.epoch, names.wanted(KEYS), KEYS.prefix + "limit:" + name.decode()],
        args=[name, 4, 1, 3600, ""],
    )

    assert (await asked).status == 200
    assert await client.status(token) == 429


async def test_a_count_that_nobody_knows_is_503(
    client: Client, alice: Tenant, redis: Redis, writer: SnapshotWriter
) -> None:
    redis.hset(names.marker(KEYS), mapping={"epoch": writer.epoch, "since": 2**52, "seen": 1})

    answer = await client.chat(alice.token(limits=(limit(Measure.REQUESTS, 5),)))

    assert (answer.status, answer.code) == (503, "limits_unknown")


async def test_the_usage_of_a_key_under_limits_names_the_counts(
    client: Client, alice: Tenant, writer: SnapshotWriter
) -> None:
    alice.settings(limits=(limit(Measure.TOKENS, 10**9, Period.DAY),))
    token = alice.token(limits=(limit(Measure.REQUESTS, 5), CONCURRENCY))

    assert (await client.chat(token, max_tokens=10)).status == 200

    (event,) = await writer.usage_of(1)
    assert {(one.owner, one.amount) for one in event.counted} == {
        ("key", 1),
        ("account", event.input_tokens + event.output_tokens),
    }
    assert ids.from_text(ids.Prefix.WORKER, event.counted_by)


async def test_never_more_requests_at_one_time_than_the_limit_over_all_workers(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn
) -> None:
    upstream.pause = 0.02
    token = alice.token(limits=(Limit(measure=Measure.CONCURRENCY, amount=4),))
    workers = [await make_worker() for _ in range(3)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, upstream.under_way)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    waits = {"gateway-queue": "60"}
    answers = await asyncio.gather(
        *(workers[number % 3].client.chat(token, stream=True, headers=waits) for number in range(number_of_callers()))
    )
    watching.cancel()

    assert {answer.status for answer in answers} == {200}
    assert most == 4


def number_of_callers() -> int:
    return number(24, full=64)


async def test_a_request_over_concurrency_is_refused_at_once_unless_it_waits(
    client: Client, alice: Tenant, upstream: StandIn
) -> None:
    upstream.stall_after = 1
    token = alice.token(limits=(CONCURRENCY,))
    first = asyncio.create_task(client.chat(token, stream=True))
    await eventually(lambda: upstream.under_way == 1)

    refused = await client.chat(token)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "limit_exceeded", "1")

    waiting = asyncio.create_task(client.chat(token, headers={"gateway-queue": "30"}))
    first.cancel()
    assert (await waiting).status == 200


async def test_those_who_wait_are_served_in_the_order_in_which_they_came(
    worker: Running, alice: Tenant, upstream: StandIn
) -> None:
    upstream.stall_after = 1
    token = alice.token(limits=(CONCURRENCY,))
    first = asyncio.create_task(worker.client.chat(token, stream=True))
    await eventually(lambda: upstream.under_way == 1)
    waiting = []
    shares = worker.worker.shares._shares
    for place in range(5):
        waits = {"gateway-queue": "30"}
        waiting.append(asyncio.create_task(worker.client.chat(token, user=f"caller-{place}", headers=waits)))
        await eventually(lambda: [len(one.waiting) for one in shares.values()] == [place + 1])  # noqa: B023 -- awaited in this turn
    # One who hangs up leaves the queue.
    waiting[2].cancel()
    await eventually(lambda: [len(one.waiting) for one in shares.values()] == [4])
    first.cancel()
    del waiting[2]

    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200] * 4
    assert [call.body["user"][-1] for call in upstream.calls[1:]] == ["0", "1", "3", "4"]


async def test_a_caller_that_leaves_gives_its_place_back(client: Client, alice: Tenant, upstream: StandIn) -> None:
    upstream.stall_after = 1
    token = alice.token(limits=(CONCURRENCY,))
    for _ in range(3):
        calls = len(upstream.calls)
        leaving = asyncio.create_task(client.chat(token, stream=True, headers={"gateway-queue": "30"}))
        await eventually(lambda: len(upstream.calls) > calls)  # noqa: B023 -- awaited in this turn
        leaving.cancel()
    upstream.stall_after = None

    assert (await client.chat(token, headers={"gateway-queue": "30"})).status == 200


async def test_what_one_worker_holds_ahead_is_called_back_for_another(
    make_worker: Callable[..., Any], alice: Tenant, redis: Redis
) -> None:
    """One worker has asked for a share ahead of need; the other one is let through as long as anything is left."""
    one, other = await make_worker(), await make_worker()
    token = alice.token(limits=(limit(Measure.REQUESTS, 60),))
    for _ in range(20):
        assert await one.client.status(token) == 200
    (share,) = one.worker.shares._shares.values()
    assert share.free(one.worker.shares.clock()) > 0

    assert [await other.client.status(token) for _ in range(40)] == [200] * 40
    assert await one.client.status(token) == 429
    assert await other.client.status(token) == 429


async def test_a_worker_that_ends_gives_back_what_it_held(
    make_worker: Callable[..., Any], environ: dict[str, str], alice: Tenant, redis: Redis
) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 100),))
    async with running(settings_of(environ)) as leaving:
        for _ in range(30):
            assert await leaving.client.status(token) == 200

    (count,) = counts_of(redis).values()
    assert count.used() == 30
    assert [held.ceiling for held in count.held.values()] == [30]


async def test_a_refused_request_reserves_nothing_in_its_other_limits(worker: Running, alice: Tenant) -> None:
    token = alice.token(limits=(limit(Measure.REQUESTS, 4), limit(Measure.OUTPUT_TOKENS, 1000)))
    for _ in range(6):
        assert (await worker.client.chat(token, max_tokens=2000)).status == 429

    assert [share.lease.reserved for share in worker.worker.shares._shares.values()] == [0, 0]
    assert [(await worker.client.chat(token, max_tokens=10)).status for _ in range(4)] == [200] * 4
