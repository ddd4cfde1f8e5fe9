"""Holds: data_plane.usage.attempt_record

Each attempt is told once, with what it used, before its answer's last piece.
"""

import asyncio
import base64
import gzip
import json
import random
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_core.redaction import mask
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests.patience import eventually, stretched
from tests.scripted_upstream import answer, scripted
from tests.servers import FaultyRedis
from tests.workers import (
    Client,
    Running,
    SnapshotWriter,
    Tenant,
    events_of,
    worker_process,
)

GOOD = "sk-good-0123456789abcdefghij"
SSE = {"stream": True}


def failing(word: str) -> str:
    """A key that makes the stand-in behave so."""
    return f"sk-demo-{word}-0123456789abcdef"


async def test_three_attempts_are_told_as_three_events_and_the_last_is_final(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    token = alice.routed(failing("429"), failing("close"), GOOD)

    answer = await client.chat(token, "openai/GPT-4o")

    first, second, third = await writer.usage_of(3)
    assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
    assert [one.is_final for one in (first, second, third)] == [False, False, True]
    assert [one.is_error for one in (first, second, third)] == [True, True, False]
    assert [one.status for one in (first, second, third)] == [429, 0, 200]
    assert [one.mask for one in (first, second, third)] == [mask(failing("429")), mask(failing("close")), mask(GOOD)]
    assert {one.request_id for one in (first, second, third)} == {answer.headers["x-request-id"]}
    assert {one.account for one in (first, second, third)} == {alice.id}
    assert (third.provider, third.model, third.requested_model) == ("openai", "gpt-4o", "openai/GPT-4o")
    assert (third.input_tokens, third.output_tokens, third.stop_reason) == (11, 5, "stop")
    assert (first.input_tokens, first.output_tokens) == (0, 0)
    assert third.key_source == "user"
    assert not third.is_streaming
    assert not third.timed_out


@pytest.mark.parametrize(
    ("path", "body", "stop_reason", "output"),
    [
        ("/v1/chat/completions", {"messages": []}, "stop", 5),
        ("/v1/completions", {"prompt": "Hi"}, "stop", 5),
        ("/v1/embeddings", {"input": "Hi"}, "", 5),
        ("/v1/chat/completions", {"messages": []} | SSE, "stop", 5),
        ("/v1/messages", {"messages": [], "max_tokens": 9}, "end_turn", 5),
        ("/v1/messages", {"messages": [], "max_tokens": 9} | SSE, "end_turn", 5),
    ],
)
async def test_the_tokens_are_those_of_the_upstreams_answer(
    client: Client,
    alice: Tenant,
    writer: SnapshotWriter,
    path: str,
    body: dict[str, Any],
    stop_reason: str,
    output: int,
):
    provider, model = ("anthropic", "claude-sonnet-4-5") if path == "/v1/messages" else ("openai", "gpt-4o")
    alice.keys(GOOD, provider=provider)

    answer = await client.request("POST", path, alice.token(), data=json.dumps({"model": model} | body))

    assert answer.status == 200
    (told,) = await writer.usage_of(1)
    assert (told.input_tokens, told.output_tokens, told.stop_reason) == (11, output, stop_reason)
    assert told.is_streaming == ("stream" in body)
    assert (told.is_final, told.is_error, told.provider) == (True, False, provider)


PICTURE = base64.b64encode(random.Random(1).randbytes(3_000_000)).decode()


@pytest.mark.parametrize("packed", ["gzip", "deflate", ""])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_usage_survives_an_answer_of_many_megabytes_that_was_compressed_unasked(
    client: Client, alice: Tenant, writer: SnapshotWriter, packed: str, *, is_stream: bool
):
    usage = {"prompt_tokens": 40, "completion_tokens": 1056, "completion_tokens_details": {"image_tokens": 1056}}
    said = {"message": {"content": PICTURE}, "delta": {"content": PICTURE}, "finish_reason": "stop"}
    body = json.dumps({"service_tier": "flex", "usage": usage, "choices": [said]}).encode()
    body = b"data: %b\n\ndata: [DONE]\n\n" % body if is_stream else body
    sent = {"gzip": gzip.compress, "deflate": zlib.compress, "": bytes}[packed](body)
    kind = "text/event-stream" if is_stream else "application/json"
    named = {"content_encoding": packed} if packed else {}
    async with scripted({GOOD: [answer(sent, 200, kind, **named)]}) as upstream:
        alice.provider("mine", upstream.url)
        asked = json.dumps({"model": "mine:m", "messages": [], "stream": is_stream})
        got = await client.request("POST", "/v1/chat/completions", alice.routed(GOOD, provider="mine"), data=asked)

    assert PICTURE.encode() in got.body
    (told,) = await writer.usage_of(1)
    assert (told.input_tokens, told.output_tokens, told.output_image_tokens) == (40, 1056, 1056)
    assert (told.service_tier, told.usage_estimated) == ("flex", False)


@pytest.mark.parametrize(("named", "told"), [(None, "flex"), ("default", ""), ("priority", "priority")])
async def test_the_tier_is_the_answers_and_else_the_requests(
    client: Client, alice: Tenant, writer: SnapshotWriter, named: str | None, told: str
):
    good = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 4}}
    body = json.dumps(good | ({"service_tier": named} if named else {})).encode()
    async with scripted({GOOD: [answer(body)]}) as upstream:
        alice.provider("mine", upstream.url)
        asked = json.dumps({"model": "mine:m", "messages": [], "service_tier": "flex"})
        await client.request("POST", "/v1/chat/completions", alice.routed(GOOD, provider="mine"), data=asked)

    assert (await writer.usage_of(1))[0].service_tier == told


@pytest.mark.parametrize("asks", [False, True])
async def test_a_stream_is_asked_for_its_usage_and_only_who_asked_gets_the_chunk(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter, asks: bool
):
    alice.keys(GOOD)

    answer = await client.chat(
        alice.token(), stream=True, **({"stream_options": {"include_usage": True}} if asks else {})
    )

    assert upstream.calls[0].body["stream_options"] == {"include_usage": True}
    told = [event for _, event in events_of(answer.body) if isinstance(event, dict) and "usage" in event]
    assert len(told) == asks
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert (await writer.usage_of(1))[0].output_tokens == 5


async def test_a_provider_that_is_not_known_to_take_stream_options_is_not_given_any(
    client: Client, alice: Tenant, upstream: StandIn, make_worker: Callable[..., Any], writer: SnapshotWriter
):
    worker = await make_worker(upstream_base_urls={"mistral": upstream.url})
    alice.keys(GOOD, provider="mistral")

    await worker.client.chat(alice.token(), "mistral:some-model", stream=True)

    assert "stream_options" not in upstream.calls[0].body
    assert (await writer.usage_of(1))[0].status == 200


async def test_a_final_refusal_is_told_with_its_status(client: Client, alice: Tenant, writer: SnapshotWriter):
    await client.chat(alice.routed(failing("422"), GOOD))

    (told,) = await writer.usage_of(1)
    assert (told.status, told.is_final, told.is_error) == (422, True, True)


async def test_when_every_attempt_failed_the_last_one_is_final(client: Client, alice: Tenant, writer: SnapshotWriter):
    await client.chat(alice.routed(failing("500"), failing("503")))

    told = await writer.usage_of(2)
    assert [(one.status, one.is_final, one.is_error) for one in told] == [(500, False, True), (503, True, True)]


async def test_an_attempt_whose_candidate_was_refused_is_not_final_when_another_model_answers(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    first, second = alice.keys(failing("404"), GOOD)
    rules = (
        Rule(provider="openai", model="gpt-4o", steps=(Step(type="user", keys=(first, second)),)),
        Rule(provider="openai", steps=(Step(type="user", keys=(second,)),)),
    )

    await client.chat(alice.token(configuration=alice.configuration(*rules)), models=["openai:gpt-4o-mini"])

    told = await writer.usage_of(2)
    assert [(one.model, one.status, one.is_final) for one in told] == [
        ("gpt-4o", 404, False),
        ("gpt-4o-mini", 200, True),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_timeouts_are_told_as_such(worker: Running, alice: Tenant, writer: SnapshotWriter, stream: bool):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(per_request_timeout="200ms"))

    await worker.client.chat(token, stream=stream)

    first, second = await writer.usage_of(2)
    assert (first.status, first.timed_out, first.is_error, first.is_final) == (0, True, True, False)
    assert 150 < first.duration_ms < stretched(5000)
    assert (second.status, second.timed_out) == (200, False)


async def test_the_total_timeout_ends_the_last_attempt(worker: Running, alice: Tenant, writer: SnapshotWriter):
    token = alice.routed(failing("hang"), GOOD)
    await worker.reaches(alice.settings(total_timeout="200ms"))

    assert (await worker.client.chat(token)).code == "total_timeout"

    (told,) = await writer.usage_of(1)
    assert (told.timed_out, told.is_error, told.is_final) == (True, True, True)


async def test_a_cut_stream_is_an_error_and_counts_what_came(client: Client, alice: Tenant, writer: SnapshotWriter):
    await client.chat(alice.routed(failing("cut")), stream=True, messages=[{"role": "user", "content": "x" * 350}])

    (told,) = await writer.usage_of(1)
    assert (told.status, told.is_error, told.is_final) == (200, True, True)
    assert told.input_tokens == 102
    assert told.output_tokens == 4


async def test_a_stream_that_falls_silent_is_told_as_timed_out(
    worker: Running, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    token = alice.routed(GOOD)
    await worker.reaches(alice.settings(per_request_timeout="200ms"))
    upstream.stall_after = 2

    await worker.client.chat(token, stream=True)

    (told,) = await writer.usage_of(1)
    assert (told.timed_out, told.is_error, told.output_tokens) == (True, True, 2)


async def test_a_caller_that_leaves_is_nobodys_error_and_what_it_got_is_counted(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    upstream.stall_after = 3
    token = alice.routed(GOOD)
    headers = {"authorization": f"Bearer {token}"}
    body = json.dumps({"model": "openai:gpt-4o", "stream": True, "messages": [{"role": "user", "content": "x" * 35}]})

    async with client.session.post(f"{client.url}/v1/chat/completions", data=body, headers=headers) as response:
        await response.content.readany()
        await eventually(lambda: len(upstream.calls) == 1)
        await asyncio.sleep(0.1)
        response.close()

    (told,) = await writer.usage_of(1)
    assert (told.status, told.is_error, told.is_final) == (200, False, True)
    assert (told.input_tokens, told.output_tokens) == (12, 3)


async def test_who_leaves_after_the_last_word_and_before_the_usage_is_still_counted(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    # Five words, the chunk with the finish reason; the usage chunk would be the seventh.
    upstream.stall_after = 6
    headers = {"authorization": f"Bearer {alice.routed(GOOD)}"}
    body = json.dumps({"model": "openai:gpt-4o", "stream": True, "messages": [{"role": "user", "content": "x" * 35}]})

    async with client.session.post(f"{client.url}/v1/chat/completions", data=body, headers=headers) as response:
        seen = b""
        while b'"finish_reason":"stop"' not in seen:
            chunk = await response.content.readany()
            assert chunk, seen
            seen += chunk
        response.close()

    (told,) = await writer.usage_of(1)
    assert (told.input_tokens, told.output_tokens, told.stop_reason) == (12, 6, "stop")


async def test_a_caller_that_leaves_before_any_answer_is_told_too(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    call = asyncio.create_task(client.chat(alice.routed(failing("hang"))))
    await eventually(lambda: upstream.calls)

    call.cancel()

    (told,) = await writer.usage_of(1)
    assert (told.status, told.is_error, told.is_final, told.output_tokens) == (0, False, True, 0)


async def test_a_key_that_cannot_be_opened_sends_nothing_and_is_no_attempt(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    from gateway_core import snapshot

    bad, good = alice.keys("sk-broken-0123456789abcdef", GOOD)
    document = alice.key_document(bad, "sk-other")
    alice.publish(
        {
            snapshot.provider_key_document(bad): type(document)(
                provider="openai", mask="sk-***", sealed=document.sealed[:-1] + b"\x00"
            )
        }
    )
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(bad, good)),))

    answer = await client.chat(alice.token(configuration=alice.configuration(rule)))

    assert answer.headers["gateway-attempts"] == "1"
    (told,) = await writer.usage_of(1)
    assert (told.attempt, told.provider_key) == (1, good)


async def test_a_request_that_is_refused_before_anything_is_sent_tells_nothing(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    assert (await client.chat(alice.token(), "openai:gpt-4o")).status == 400
    alice.keys(GOOD)
    assert (await client.chat(alice.token())).status == 200

    assert len(await writer.usage_of(1)) == 1


async def test_a_model_that_no_event_could_hold_is_told_as_far_as_it_fits(
    client: Client, alice: Tenant, writer: SnapshotWriter
):
    alice.keys(GOOD)

    for name in ("openai:" + "m" * 400, "openai:\u0085", "openai:a\u0090b"):
        assert (await client.chat(alice.token(), name)).status == 200

    told = await writer.usage_of(3)
    assert [one.model for one in told] == ["m" * 255, "?", "ab"]


async def test_a_long_answer_is_told_by_its_end(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    upstream.text = "word " * 600_000
    alice.keys(GOOD)

    answer = await client.chat(alice.token())

    assert len(answer.body) > 3_000_000
    assert (await writer.usage_of(1))[0].output_tokens == 5


async def test_a_redis_that_is_full_or_away_costs_no_request(
    make_worker: Callable[..., Any],
    redis_server: Callable[..., FaultyRedis],
    environ: dict[str, str],
    alice: Tenant,
    writer: SnapshotWriter,
    worker: Running,
):
    alice.keys(GOOD)
    token = alice.token()
    assert await worker.client.status(token) == 200
    await writer.usage_of(1)
    writer.redis.config_set("maxmemory", 1)
    try:
        assert [await worker.client.status(token) for _ in range(20)] == [200] * 20
        await eventually(lambda: worker.worker.usage.counts.waiting == 20)
    finally:
        writer.redis.config_set("maxmemory", 0)

    assert len(await writer.usage_of(21)) == 21
    metrics = (await worker.client.get("/metrics")).body.decode()
    assert 'gateway_usage_events{outcome="sent"} 21.0' in metrics
    assert 'gateway_usage_events{outcome="dropped"} 0.0' in metrics


@pytest.mark.faults
@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_killed_the_moment_its_answer_is_there_has_told_of_it(
    environ: dict[str, str],
    alice: Tenant,
    writer: SnapshotWriter,
    make_worker: Callable[..., Any],
    tmp_path: Path,
    stream: bool,
):
    alice.keys(GOOD)
    token = alice.token()
    spool = tmp_path / "usage"
    requests = []
    for _ in range(3):
        with worker_process(environ | {"USAGE_SPOOL": str(spool)}, tmp_path) as running:
            requests.append(await _last_piece_then_kill(running, token, stream=stream))

    await make_worker(usage_spool=spool)

    told = await writer.usage_of(3)
    assert [(one.request_id, one.output_tokens, one.is_error) for one in told] == [(one, 5, False) for one in requests]
    await eventually(lambda: list(spool.iterdir()) == [])


async def _last_piece_then_kill(running: Any, token: str, *, stream: bool) -> str:
    """Kill the worker as soon as the caller has what it takes for the whole answer."""
    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": stream})
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/chat/completions", data=body, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        seen = b""
        while not seen.endswith(b"data: [DONE]\n\n" if stream else b"}"):
            chunk = await response.content.readany()
            assert chunk, seen
            seen += chunk
        running.stop(signal.SIGKILL)
        return response.headers["x-request-id"]
