"""Holds: data_plane.usage.attempt_record, gateway_core.traces

What each attempt's event says of its place in its request.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.redaction import mask
from gateway_core.snapshot import Rule, Scope, Step
from gateway_core.usage_events import UsageEvent
from local.stand_in import StandIn
from tests.patience import eventually
from tests.scripted_upstream import GOOD_STREAM, head, scripted
from tests.workers import Client, Running, SnapshotWriter, Tenant

GOOD = "sk-good-0123456789abcdefghij"
Words = list[tuple[str, str, bool]]


def failing(word: str) -> str:
    """A key that makes the stand-in behave so."""
    return f"sk-demo-{word}-0123456789abcdef"


def words_of(events: list[UsageEvent]) -> Words:
    """(completion, retry action, served) of each."""
    return [(one.trace.completion, one.trace.retry_action, one.trace.served) for one in events if one.trace]


@pytest.mark.parametrize(
    ("keys", "members", "expected"),
    [
        ((GOOD,), {}, [("succeeded", "succeeded", True)]),
        ((GOOD,), {"stream": True}, [("succeeded", "succeeded", True)]),
        ((failing("429"), GOOD), {}, [("failed", "next_key", False), ("succeeded", "succeeded", True)]),
        ((failing("close"), GOOD), {}, [("failed", "next_key", False), ("succeeded", "succeeded", True)]),
        ((failing("422"), GOOD), {}, [("failed", "fail_fast", True)]),
        ((failing("500"), failing("503")), {}, [("failed", "next_key", False), ("failed", "exhausted", False)]),
        ((failing("cut"), GOOD), {"stream": True}, [("stream_failed", "fail_fast", True)]),
        ((failing("cut"), GOOD), {}, [("failed", "next_key", False), ("succeeded", "succeeded", True)]),
    ],
    ids=["answers", "streams", "429", "no connection", "refusal", "all fail", "cut stream", "cut answer"],
)
async def test_an_attempt_says_how_it_ended_and_what_followed(
    client: Client,
    alice: Tenant,
    writer: SnapshotWriter,
    keys: tuple[str, ...],
    members: dict[str, Any],
    expected: Words,
):
    await client.chat(alice.routed(*keys), **members)

    assert words_of(await writer.usage_of(len(expected))) == expected


async def test_a_time_out_is_told_apart_from_a_stream_that_falls_silent(
    worker: Running, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(per_request_timeout="200ms"))
    upstream.stall_after = 2

    await worker.client.chat(token, stream=True)

    assert words_of(await writer.usage_of(2)) == [
        ("timed_out", "next_key", False),
        ("stream_failed", "fail_fast", True),
    ]


async def test_no_time_for_another_attempt_is_failing_fast(worker: Running, alice: Tenant, writer: SnapshotWriter):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(total_timeout="200ms"))

    await worker.client.chat(token)

    assert words_of(await writer.usage_of(1)) == [("timed_out", "fail_fast", False)]


async def test_of_a_caller_that_leaves_nothing_is_known(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    call = asyncio.create_task(client.chat(alice.routed(failing("hang"))))
    await eventually(lambda: upstream.calls)

    call.cancel()

    assert words_of(await writer.usage_of(1)) == [("unknown", "fail_fast", False)]


async def test_another_model_is_another_backend_and_the_operators_key_a_managed_fallback(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    writer.managed(openai=GOOD)
    alice.settings(has_credits=True)
    (first,) = alice.keys(failing("404"))
    (second,) = alice.keys(failing("503"))
    rules = (
        Rule(provider="openai", model="gpt-4o", steps=(Step(type="user", keys=(first,)),)),
        Rule(provider="openai", steps=(Step(type="user", keys=(second,)), Step(type="ngrok"))),
    )
    token = alice.token(configuration=alice.configuration(*rules))

    await client.chat(token, models=["openai:gpt-4o-mini"])

    events = await writer.usage_of(3)
    assert words_of(events) == [
        ("failed", "next_backend", False),
        ("failed", "managed_fallback", False),
        ("succeeded", "succeeded", True),
    ]
    assert [one.trace.credentials_from for one in events if one.trace] == [
        "router.rules[0].steps[0]",
        "router.rules[1].steps[0]",
        "router.rules[1].steps[1]",
    ]


async def test_it_names_the_configuration_and_the_snapshot_that_decided(
    client: Client, alice: Tenant, writer: SnapshotWriter, worker: Running
):
    alice.keys(GOOD)
    configuration = alice.configuration(
        Rule(provider="openai", steps=(Step(type="user", keys=tuple(alice.keys(GOOD))),))
    )
    await client.chat(alice.token(configuration=configuration))
    before = worker.store.accounts[alice.id].snapshot.version
    token = alice.token()
    await client.chat(token)

    ruled, by_default = await writer.usage_of(2)

    assert ruled.trace is not None
    assert by_default.trace is not None
    assert (ruled.trace.configuration, ruled.trace.snapshot_version) == (configuration, before)
    assert (by_default.trace.configuration, by_default.trace.credentials_from) == (None, "default")
    assert by_default.trace.snapshot_version == worker.store.accounts[alice.id].snapshot.version > before


async def test_what_the_policy_left_out_stands_with_the_first_attempt(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    key, other = alice.keys(failing("500"), GOOD)
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key, other)),))
    scope = Scope(models=(("openai", "gpt-4o"),))
    token = alice.token(configuration=alice.configuration(rule, scope=scope))
    unknown = "€" * 60

    await client.chat(token, models=["anthropic:claude-sonnet-4-5", unknown, "openai:gpt-4o-mini"])

    first, second = await writer.usage_of(2)
    assert first.trace is not None
    assert second.trace is not None
    assert [(one.provider, one.model, one.reason) for one in first.trace.passed_over] == [
        ("", "€" * 32, "model_unknown"),
        ("anthropic", "claude-sonnet-4-5", "model_not_allowed"),
        ("openai", "gpt-4o-mini", "model_not_allowed"),
    ]
    assert second.trace.passed_over == ()


async def test_the_attempts_of_a_request_have_its_beginning_in_common(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    began = time.time_ns() // 1000
    headers = {"x-request-id": "the-callers-own"}
    for _ in range(2):
        await client.chat(alice.routed(failing("429"), GOOD), headers=headers)

    events = await writer.usage_of(4)

    assert {one.request_id for one in events} == {"the-callers-own"}
    beginnings = [one.requested_at or 0 for one in events]
    assert began <= beginnings[0] == beginnings[1] < beginnings[2] == beginnings[3]
    assert all(one.time >= beginning for one, beginning in zip(events, beginnings, strict=True))


async def test_the_first_byte_is_a_streams_first_content_and_the_head_of_any_other_answer(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    upstream.pause = 0.25
    token = alice.routed(failing("close"), GOOD)

    await client.chat(token, stream=True)
    await client.chat(alice.routed(failing("401"), GOOD))

    cut, stream, refused, whole = await writer.usage_of(4)
    assert cut.first_byte_ms is None
    assert stream.first_byte_ms is not None
    assert 0 <= stream.first_byte_ms < stream.duration_ms - 200
    assert refused.first_byte_ms is not None
    assert whole.first_byte_ms is not None
    assert whole.first_byte_ms <= whole.duration_ms
    assert (cut.mask, stream.mask) == (mask(failing("close")), mask(GOOD))


async def test_signs_of_life_are_not_the_first_byte_of_a_stream(
    make_worker: Callable[..., Any], alice: Tenant, writer: SnapshotWriter
):
    async with scripted({GOOD: [head(), b": still there\n\n", 0.3, GOOD_STREAM]}) as upstream:
        worker = await make_worker(upstream_base_urls={"openai": upstream.url})

        await worker.client.chat(alice.routed(GOOD), stream=True)

        (event,) = await writer.usage_of(1)
    assert event.first_byte_ms is not None
    assert event.first_byte_ms >= 290
