"""Holds: data_plane.forwarding.attempts

The attempt machine: order, triggers, timeouts, and what a caller is told at the end.
"""

import asyncio
import time
from typing import Any

import pytest

from gateway_core.redaction import mask
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests.patience import eventually, stretched
from tests.workers import Client, Running, Tenant

GOOD = "sk-good-0123456789abcdefghij"


def failing(word: str) -> str:
    """A key that makes the stand-in behave so."""
    return f"sk-demo-{word}-0123456789abcdef"


async def test_a_first_key_429_and_a_second_401_still_give_the_answer_of_the_third(
    client: Client, alice: Tenant, upstream: StandIn
):
    token = alice.routed(failing("429"), failing("401"), GOOD)

    answer = await client.chat(token)

    assert answer.status == 200
    assert upstream.keys == [failing("429"), failing("401"), GOOD]
    assert answer.headers["gateway-attempts"] == "3"


TRIGGERS = ["401", "402", "403", "408", "429", "500", "502", "503", "599", "302", "close"]


# A stream that is cut has begun, and is another matter.
@pytest.mark.parametrize(("word", "stream"), [*((w, s) for w in TRIGGERS for s in (False, True)), ("cut", False)])
async def test_every_trigger_moves_on_to_the_next_key(
    client: Client, alice: Tenant, upstream: StandIn, word: str, stream: bool
):
    token = alice.routed(failing(word), GOOD)

    answer = await client.chat(token, stream=stream)

    assert answer.status == 200
    assert upstream.keys == [failing(word), GOOD]


@pytest.mark.parametrize("word", ["400", "404", "409", "413", "422", "451"])
async def test_any_other_4xx_is_returned_as_it_came_when_there_is_no_other_model(
    client: Client, alice: Tenant, upstream: StandIn, word: str
):
    token = alice.routed(failing(word), GOOD)

    answer = await client.chat(token)

    assert answer.status == int(word)
    assert answer.json()["error"]["message"] == f"the stand-in answers {word}"
    assert upstream.keys == [failing(word)]
    assert "set-cookie" not in answer.headers


async def test_any_other_4xx_moves_on_to_the_next_model_and_not_to_the_next_key(
    client: Client, alice: Tenant, upstream: StandIn
):
    first, second, third = alice.keys(failing("404"), "sk-never-0123456789abcdefghij", GOOD)
    configuration = alice.configuration(
        Rule(provider="openai", model="gpt-4o", steps=(Step(type="user", keys=(first, second)),)),
        Rule(provider="openai", steps=(Step(type="user", keys=(third,)),)),
    )
    token = alice.token(configuration=configuration)

    answer = await client.chat(token, "openai:gpt-4o", models=["openai:gpt-4o-mini"])

    assert answer.status == 200
    assert upstream.keys == [failing("404"), GOOD]
    assert [call.body["model"] for call in upstream.calls] == ["gpt-4o", "gpt-4o-mini"]
    assert answer.headers["gateway-model"] == "gpt-4o-mini"


async def test_fallback_models_are_tried_in_order_and_no_pair_twice(client: Client, alice: Tenant, upstream: StandIn):
    token = alice.routed(failing("500"))

    await client.chat(token, "openai:gpt-4o", models=["openai:gpt-4o-mini", "gpt-4o", "openai/gpt-4o-mini"])

    assert [call.body["model"] for call in upstream.calls] == ["gpt-4o", "gpt-4o-mini"]


async def test_when_every_attempt_got_429_the_answer_is_429_with_retry_after(client: Client, alice: Tenant):
    answer = await client.chat(alice.routed(failing("429"), failing("429") + "b"))

    assert (answer.status, answer.code) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "7"


async def test_when_every_attempt_failed_the_answer_lists_each_by_its_mask(client: Client, alice: Tenant):
    answer = await client.chat(alice.routed(failing("500"), failing("401")))

    assert (answer.status, answer.code) == (502, "attempts_failed")
    message = answer.json()["error"]["message"]
    assert f"openai:gpt-4o with {mask(failing('500'))}: 500" in message
    assert f"openai:gpt-4o with {mask(failing('401'))}: 401" in message
    assert failing("500") not in message
    assert answer.headers["gateway-attempts"] == "2"


async def test_no_connection_is_a_failure_like_any_other(client: Client, alice: Tenant, upstream: StandIn):
    alice.provider("gone", "http://127.0.0.1:9")
    alice.keys(GOOD)

    answer = await client.chat(alice.token(), "gone:m", models=["openai:gpt-4o"])

    assert answer.status == 200
    assert answer.headers["gateway-attempts"] == "2"


async def test_an_attempt_that_takes_too_long_gives_way_to_the_next(worker: Running, alice: Tenant, upstream: StandIn):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(per_request_timeout="300ms"))

    began = time.monotonic()
    answer = await worker.client.chat(token)

    assert answer.status == 200
    assert 0.25 < time.monotonic() - began < stretched(5)
    await eventually(lambda: upstream.cut_off == 1)


async def test_the_total_timeout_bounds_all_attempts_together(worker: Running, alice: Tenant):
    token = alice.routed(*(failing("hang") + str(number) for number in range(6)))
    await worker.reaches(alice.settings(per_request_timeout="400ms", total_timeout="1s"))

    began = time.monotonic()
    answer = await worker.client.chat(token)

    assert (answer.status, answer.code) == (504, "total_timeout")
    assert 0.9 < time.monotonic() - began < stretched(5)


async def test_a_per_request_timeout_above_the_total_is_bounded_by_it(worker: Running, alice: Tenant):
    token = alice.routed(failing("hang"))
    await worker.reaches(alice.settings(per_request_timeout="1h", total_timeout="300ms"))

    assert (await worker.client.chat(token)).code == "total_timeout"


async def test_a_value_that_does_not_open_is_skipped_and_reported(worker: Running, alice: Tenant, upstream: StandIn):
    from gateway_core import snapshot

    bad, good = alice.keys("sk-will-be-broken-0123456789", GOOD)
    document = alice.key_document(bad, "sk-other")
    broken = type(document)(provider="openai", mask="sk-***", sealed=document.sealed[:-1] + b"\x00")
    alice.publish({snapshot.provider_key_document(bad): broken})
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(bad, good)),))
    only = Rule(provider="openai", steps=(Step(type="user", keys=(bad,)),))
    both, alone = (alice.token(configuration=alice.configuration(one)) for one in (rule, only))

    assert (await worker.client.chat(both)).status == 200
    unusable = await worker.client.chat(alone)

    assert (unusable.status, unusable.code) == (503, "keys_unusable")
    assert upstream.keys == [GOOD]
    assert worker.store.refusals == 1
    assert worker.store.last_refusals[0].reason == "its value does not open"


async def test_rotating_a_key_changes_the_next_requests_upstream_key_and_nothing_else(
    worker: Running, alice: Tenant, upstream: StandIn
):
    key = alice.keys("sk-old-0123456789abcdefghij")[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    token = alice.token(configuration=alice.configuration(rule))
    await worker.client.chat(token)

    await worker.reaches(alice.rotate(key, "sk-new-0123456789abcdefghij"))
    await worker.client.chat(token)

    assert upstream.keys == ["sk-old-0123456789abcdefghij", "sk-new-0123456789abcdefghij"]


async def test_a_sealed_value_is_opened_once_for_its_document(worker: Running, alice: Tenant, monkeypatch):
    opened = []
    keyring = type(worker.worker.settings.keyring)
    original = keyring.open

    def open_once_more(*args: Any) -> str:
        opened.append(args)
        return original(*args)

    monkeypatch.setattr(keyring, "open", open_once_more)
    alice.keys(GOOD)
    token = alice.token()

    for _ in range(20):
        assert await worker.client.status(token) == 200

    assert len(opened) == 1


async def test_keys_without_a_configuration_are_tried_newest_first(client: Client, alice: Tenant, upstream: StandIn):
    for value in ("sk-oldest-0123456789abcdef", failing("500"), failing("429")):
        alice.keys(value)

    assert await client.status(alice.token()) == 200
    assert upstream.keys == [failing("429"), failing("500"), "sk-oldest-0123456789abcdef"]


async def test_a_caller_that_leaves_closes_the_upstream_call_within_a_second(
    worker: Running, alice: Tenant, upstream: StandIn
):
    token = alice.routed(failing("hang"))
    call = asyncio.create_task(worker.client.chat(token))
    await eventually(lambda: upstream.calls)

    call.cancel()

    await eventually(lambda: upstream.cut_off == 1, within=1)
    assert worker.worker.upstream.open_connections == 0
    assert await worker.client.status(alice.routed(GOOD)) == 200
