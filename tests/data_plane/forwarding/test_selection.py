"""Holds: data_plane.forwarding.selection, gateway_core.policy

The strategies of a step: which key a request tries first, and which next.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from data_plane.forwarding.selection import arranged
from data_plane.settings import RequestLimits
from gateway_core.plans import Attempt, DecidedBy, Group, KeySource, Plan, Strategy
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests import tiers
from tests.patience import eventually
from tests.scripted_upstream import answer, scripted
from tests.workers import Client, Running, Tenant

ALL = [f"sk-key-{number}-0123456789abcdef" for number in range(6)]


def plan_of(strategy: Strategy, *weights: int) -> Plan:
    """One key, a group of keys with these weights, one key."""
    attempts = [
        Attempt("openai", "m", KeySource.USER, f"k{place}", DecidedBy.PROVIDER_RULE, 0, 1, 0, strategy, weight)
        for place, weight in enumerate((1, *weights, 1))
    ]
    return Plan(tuple(attempts), (), groups=(Group(1, len(weights) + 1, strategy),))


def order(plan: Plan, **given: Any) -> list[str | None]:
    values: dict[str, Any] = {"sticks_to": lambda: ("text", None), "busy": {}} | given
    return [attempt.provider_key for attempt in arranged(plan, **values)]


@pytest.mark.parametrize("strategy", [Strategy.WEIGHTED, Strategy.LEAST_BUSY, Strategy.STICKY])
def test_only_the_members_of_a_group_move_and_none_is_lost(strategy: Strategy) -> None:
    for text in map(str, range(50)):
        found = order(plan_of(strategy, 1, 5, 9, 1), sticks_to=lambda text=text: (text, None), busy={"k1": 3, "k2": 1})

        assert (found[0], found[-1]) == ("k0", "k5")
        assert sorted(filter(None, found)) == ["k0", "k1", "k2", "k3", "k4", "k5"]


def test_weights_are_shares_of_the_first_tries_and_of_the_next_among_those_left() -> None:
    chance = random.Random(7).random
    rounds = tiers.number(6_000, full=60_000)
    found = [order(plan_of(Strategy.WEIGHTED, 7, 2, 1), chance=chance) for _ in range(rounds)]

    first = Counter(one[1] for one in found)
    assert first["k1"] / rounds == pytest.approx(0.7, abs=0.03)
    assert first["k2"] / rounds == pytest.approx(0.2, abs=0.03)
    after = Counter(one[2] for one in found if one[1] == "k1")
    assert after["k2"] / after.total() == pytest.approx(2 / 3, abs=0.03)


def test_the_least_busy_comes_first_and_equals_as_they_are_listed() -> None:
    plan = plan_of(Strategy.LEAST_BUSY, 1, 1, 1, 1)

    assert order(plan, busy={"k1": 2, "k2": 1, "k4": 1, "k0": 9}) == ["k0", "k3", "k2", "k4", "k1", "k5"]


def test_what_belongs_together_has_one_order_and_texts_are_spread() -> None:
    plan = plan_of(Strategy.STICKY, 1, 1, 1)
    orders = {text: order(plan, sticks_to=lambda text=text: (text, None)) for text in map(str, range(300))}

    assert all(order(plan, sticks_to=lambda text=text: (text, None)) == one for text, one in orders.items())
    spread = Counter(one[1] for one in orders.values())
    assert min(spread.values()) > 60
    # Without one key only those move that it was first for.
    smaller = plan._replace(attempts=(*plan.attempts[:3], plan.attempts[4]), groups=(Group(1, 3, Strategy.STICKY),))
    for text, one in orders.items():
        if one[1] != "k3":
            assert order(smaller, sticks_to=lambda text=text: (text, None))[1] == one[1]


def routed(tenant: Tenant, strategy: str, *values: str, weights: tuple[int, ...] = (), provider: str = "openai") -> str:
    """A token whose configuration has one step with this strategy."""
    keys = tuple(tenant.keys(*values, provider=provider))
    step = Step(type="user", keys=keys, strategy=strategy, weights=weights)
    return tenant.token(configuration=tenant.configuration(Rule(provider=provider, steps=(step,))))


async def test_a_worker_draws_by_the_weights(client: Client, alice: Tenant, upstream: StandIn):
    token = routed(alice, "weighted", *ALL[:2], weights=(1000,))

    for _ in range(30):
        assert await client.status(token) == 200

    # The chance of fewer is one in a billion.
    assert upstream.keys.count(ALL[0]) >= 26


async def test_a_weighted_step_tries_its_other_keys_when_one_fails(client: Client, alice: Tenant, upstream: StandIn):
    bad = "sk-demo-500-0123456789abcdef"
    token = routed(alice, "weighted", bad, ALL[0], weights=(1000, 1))

    assert [await client.status(token) for _ in range(5)] == [200] * 5
    assert bad in upstream.keys


async def test_the_least_busy_key_gets_the_next_request_until_its_answer_has_ended(
    client: Client, alice: Tenant, upstream: StandIn
):
    token = routed(alice, "leastBusy", *ALL[:3])
    upstream.stall_after = 1
    waiting = []
    for _ in range(3):
        waiting.append(asyncio.create_task(client.chat(token, stream=True)))
        await eventually(lambda: len(upstream.calls) == len(waiting))

    assert upstream.keys == ALL[:3]
    waiting[1].cancel()
    await eventually(lambda: upstream.cut_off == 1)
    upstream.stall_after = None
    assert await client.status(token) == 200
    assert upstream.keys[3:] == [ALL[1]]
    for one in waiting:
        one.cancel()


async def test_nothing_stays_busy_whatever_becomes_of_the_attempts(worker: Running, alice: Tenant):
    for word in ("500", "close", "422", "cut", "401"):
        token = routed(alice, "leastBusy", f"sk-demo-{word}-0123456789abcdef")
        await worker.client.chat(token, stream=True)
    token = routed(alice, "leastBusy", "sk-demo-hang-0123456789abcdef")
    call = asyncio.create_task(worker.client.chat(token))
    keys = worker.worker.app.cooling.of(alice.id)
    await eventually(lambda: len(keys.busy) == 1)
    call.cancel()
    await eventually(lambda: keys.busy == {})


@pytest.mark.parametrize("member", ["prompt_cache_key", "access key"])
async def test_a_sticky_step_keeps_to_one_key_for_what_belongs_together(
    client: Client, alice: Tenant, upstream: StandIn, member: str
):
    keys = tuple(alice.keys(*ALL))
    rule = Rule(provider="openai", steps=(Step(type="user", keys=keys, strategy="sticky"),))
    configuration = alice.configuration(rule)
    chosen = []
    for number in range(12):
        token = alice.token(configuration=configuration)
        members = {"prompt_cache_key": f"talk-{number}"} if member == "prompt_cache_key" else {}
        seen = len(upstream.calls)
        for _ in range(3):
            # Who sends it does not matter where there is a cache key.
            sender = alice.token(configuration=configuration) if members else token
            assert await client.status(sender, **members) == 200
        assert len(set(upstream.keys[seen:])) == 1
        chosen.append(upstream.keys[-1])

    assert len(set(chosen)) > 1


async def test_a_response_that_another_key_made_after_a_failure_is_followed_up_with_that_key(
    make_worker: Callable[..., Any], alice: Tenant
):
    def response(name: str) -> bytes:
        return answer(b'{"id":"%b","object":"response","status":"completed","output":[]}' % name.encode())

    scripts: dict[str, list[bytes | float]] = {key: [answer(b"{}", 500)] for key in ALL}
    async with scripted(scripts) as upstream:
        worker = await make_worker(upstream_base_urls={"openai": upstream.url})
        token = routed(alice, "sticky", *ALL)

        async def ask(**members: Any) -> None:
            body = {"model": "openai:gpt-4o", "input": "Hi"} | members
            await worker.client.request("POST", "/v1/responses", token, json=body)

        await ask()
        first, *_, last = upstream.keys
        scripts[last] = [response("resp_made_by_the_last")]
        await ask()
        for key in ALL:
            scripts[key] = [response("resp_of_any")]
        upstream.keys.clear()

        await ask(previous_response_id="resp_made_by_the_last")
        await ask(previous_response_id="resp_of_nobody_here")

    assert upstream.keys == [last, first]


@pytest.mark.parametrize("strategy", ["ordered", "of-tomorrow", ""])
async def test_in_order_is_the_default_and_what_an_unknown_strategy_means(
    client: Client, alice: Tenant, upstream: StandIn, strategy: str
):
    token = routed(alice, strategy, *ALL[:3], weights=(1, 1000, 1))

    for _ in range(5):
        await client.status(token)

    assert upstream.keys == [ALL[0]] * 5


async def test_every_key_of_a_step_has_its_turn_though_a_request_makes_fewer_attempts(
    make_worker: Callable[..., Any], environ: dict[str, str], alice: Tenant, upstream: StandIn
):
    worker = await make_worker(request_limits=RequestLimits(attempts=2))
    keys = [f"sk-demo-500-{number}-0123456789abcdef" for number in range(5)]
    token = routed(alice, "weighted", *keys)

    # The chance that one is left out is one in a hundred million.
    answers = [await worker.client.chat(token) for _ in range(40)]

    assert answers[0].headers["gateway-attempts"] == "2"
    assert set(upstream.keys) == set(keys)
    assert "one request may make 2" in answers[0].json()["error"]["message"]
