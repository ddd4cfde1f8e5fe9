"""Holds: data_plane.forwarding.trials, data_plane.forwarding.attempts

A key that fails is not asked first again: what upstreams get, and what callers and events say of it.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.redaction import mask
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests.scripted_upstream import answer, scripted
from tests.workers import Client, Running, SnapshotWriter, Tenant

GOOD = "sk-good-0123456789abcdefghij"
SPARE = "sk-spare-0123456789abcdefghij"


def failing(word: str) -> str:
    """A key that makes the stand-in behave so."""
    return f"sk-demo-{word}-0123456789abcdef"


@pytest.mark.parametrize("word", ["401", "402", "403", "429"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_that_is_refused_is_not_asked_again_and_the_event_says_so(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter, word: str, stream: bool
):
    bad, good = alice.keys(failing(word), GOOD)
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(bad, good)),))
    token = alice.token(configuration=alice.configuration(rule))

    answers = [await client.chat(token, stream=stream) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [answer.headers["gateway-attempts"] for answer in answers] == ["2", "1", "1"]
    assert upstream.keys == [failing(word), GOOD, GOOD, GOOD]
    refused, *answered = await writer.usage_of(4)
    for event in answered[1:]:
        assert event.trace is not None
        (passed,) = event.trace.passed_over
        assert (passed.provider, passed.model, passed.provider_key) == ("openai", "gpt-4o", bad)
        assert (passed.reason, passed.cause) == ("cooling", "rate_limited" if word == "429" else "key_refused")
        assert refused.time < passed.since < event.time
    metrics = (await client.get("/metrics")).body.decode()
    cause = "rate_limited" if word == "429" else "key_refused"
    assert f'gateway_attempts_passed_over_total{{cause="{cause}"}} 2.0' in metrics


async def test_trouble_of_the_key_under_another_status_counts_by_its_dialect(
    make_worker: Callable[..., Any], alice: Tenant
):
    message = b"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
    empty = b'{"type":"error","error":{"type":"invalid_request_error","message":"%b"}}' % message
    whole = b'{"type":"message","content":[{"type":"text","text":"good"}],"stop_reason":"end_turn"}'
    async with scripted({"sk-empty-0123456789abcdef": [answer(empty, 400)], GOOD: [answer(whole)]}) as upstream:
        worker = await make_worker(upstream_base_urls={"anthropic": upstream.url})
        token = alice.routed("sk-empty-0123456789abcdef", GOOD, provider="anthropic")

        statuses = [(await worker.client.message(token)).status for _ in range(2)]

    assert statuses == [200, 200]
    assert upstream.keys == ["sk-empty-0123456789abcdef", GOOD, GOOD]


@pytest.mark.parametrize("word", ["500", "503", "close"])
async def test_a_key_whose_attempts_mostly_fail_is_spared_after_ten(client: Client, alice: Tenant, word: str):
    token = alice.routed(failing(word), GOOD)

    answers = [await client.chat(token) for _ in range(12)]

    assert {answer.status for answer in answers} == {200}
    assert [answer.headers["gateway-attempts"] for answer in answers] == ["2"] * 10 + ["1"] * 2


async def test_a_total_time_that_runs_out_counts_as_a_failure_of_the_key(
    worker: Running, alice: Tenant, upstream: StandIn
):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(total_timeout="50ms"))

    answers = [await worker.client.chat(token) for _ in range(10)]
    await worker.reaches(alice.settings())

    assert {answer.code for answer in answers} == {"total_timeout"}
    assert await worker.client.status(token) == 200
    assert upstream.keys[10:] == [GOOD]


async def test_refusals_of_the_request_never_spare_a_key(client: Client, alice: Tenant, upstream: StandIn):
    token = alice.routed(failing("422"), GOOD)

    for _ in range(12):
        assert await client.status(token) == 422

    assert upstream.keys == [failing("422")] * 12


async def test_the_last_attempt_is_made_whatever_is_known_of_its_key(client: Client, alice: Tenant, upstream: StandIn):
    token = alice.routed(failing("401"), failing("403"))

    answers = [await client.chat(token) for _ in range(3)]

    assert [answer.code for answer in answers] == ["attempts_failed"] * 3
    assert upstream.keys == [failing("401"), failing("403"), failing("403"), failing("403")]
    assert f"openai:gpt-4o with {mask(failing('401'))}: cooling since 20" in answers[1].json()["error"]["message"]
    assert all(answer.headers["x-should-retry"] == "false" for answer in answers)


async def test_a_rotated_key_is_asked_at_once(worker: Running, alice: Tenant, upstream: StandIn):
    bad, good = alice.keys(failing("401"), GOOD)
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(bad, good)),))
    token = alice.token(configuration=alice.configuration(rule))
    for _ in range(2):
        await worker.client.chat(token)

    await worker.reaches(alice.rotate(bad, SPARE))
    await worker.client.chat(token)

    assert upstream.keys == [failing("401"), GOOD, GOOD, SPARE]


async def test_a_key_is_asked_again_for_its_other_models(client: Client, alice: Tenant, upstream: StandIn):
    token = alice.routed(failing("429"), GOOD)

    for model in ("openai:gpt-4o", "openai:gpt-4o", "openai:gpt-4o-mini"):
        await client.chat(token, model)

    assert upstream.keys == [failing("429"), GOOD, GOOD, failing("429"), GOOD]


async def test_a_model_whose_only_key_cools_gives_way_to_the_next_model(
    client: Client, alice: Tenant, upstream: StandIn
):
    bad, good = alice.keys(failing("403"), GOOD)
    rules = (
        Rule(provider="openai", model="gpt-4o", steps=(Step(type="user", keys=(bad,)),)),
        Rule(provider="openai", steps=(Step(type="user", keys=(good,)),)),
    )
    token = alice.token(configuration=alice.configuration(*rules))

    answers = [await client.chat(token, models=["openai:gpt-4o-mini"]) for _ in range(2)]

    assert [answer.headers["gateway-model"] for answer in answers] == ["gpt-4o-mini"] * 2
    assert upstream.keys == [failing("403"), GOOD, GOOD]


async def test_who_may_try_again_soon_reads_when_though_the_limited_key_was_passed_over(client: Client, alice: Tenant):
    token = alice.routed(failing("429"), failing("401"))

    first, second = [await client.chat(token) for _ in range(2)]

    assert 5 <= float(second.headers["retry-after"]) <= 7
    assert "x-should-retry" not in first.headers
    assert "x-should-retry" not in second.headers
    assert "the upstream asked to wait" in second.json()["error"]["message"]


async def test_the_operators_key_cools_for_the_account_that_had_the_trouble_alone(
    worker: Running, alice: Tenant, charlie: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    # Whoever sets a time-out that no answer meets makes its own attempts fail.
    writer.managed(openai=failing("slow"))
    tokens = []
    for tenant in (alice, charlie):
        (spare,) = tenant.keys(SPARE)
        rule = Rule(provider="openai", steps=(Step(type="ngrok"), Step(type="user", keys=(spare,))))
        tokens.append(tenant.token(configuration=tenant.configuration(rule)))
    await worker.reaches(alice.settings(has_credits=True, per_request_timeout="1ms"))
    await worker.reaches(charlie.settings(has_credits=True))
    for _ in range(11):
        await worker.client.chat(tokens[0], stream=True)
    seen = len(upstream.calls)

    answer = await worker.client.chat(tokens[1])

    assert answer.status == 200
    assert upstream.keys[seen:] == [failing("slow")]


def _limited(text: str) -> list[Any]:
    return re.findall("cooling since", text)


async def test_what_was_passed_over_is_listed_up_to_a_bound(client: Client, alice: Tenant):
    keys = [failing(f"401-{number}") for number in range(15)]
    token = alice.routed(*keys, failing("500"))

    first = await client.chat(token)
    second = await client.chat(token)

    assert _limited(first.json()["error"]["message"]) == []
    assert len(_limited(second.json()["error"]["message"])) == 15
    assert second.headers["gateway-attempts"] == "1"
