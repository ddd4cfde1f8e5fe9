"""Holds: data_plane.forwarding.sse, data_plane.forwarding.exchange

Streams: as they come, never taken for complete when they are not.
"""

import asyncio
import json
import time

import pytest

from data_plane.forwarding.sse import TAIL, EventStream, apart_from
from gateway_core.catalog import Surface
from gateway_core.snapshot import SurfaceSupport
from local.stand_in import StandIn
from tests.patience import eventually, stretched
from tests.scripted_upstream import GOOD_STREAM, Script, head, scripted
from tests.workers import Client, Running, SnapshotWriter, Tenant, events_of, saying

GOOD = "sk-good-0123456789abcdefghij"
CUT = "sk-demo-cut-0123456789abcdef"
UNFINISHED = "sk-demo-unfinished-0123456789"


async def test_a_stream_passes_event_by_event_as_it_arrives(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys(GOOD)
    upstream.pause = 0.1
    began, seen = time.monotonic(), []
    headers = {"authorization": f"Bearer {alice.token()}"}
    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": True})

    async with client.session.post(f"{client.url}/v1/chat/completions", data=body, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        while chunk := await response.content.readany():
            seen.append((time.monotonic() - began, chunk))

    whole = b"".join(chunk for _, chunk in seen)
    assert whole.endswith(b"data: [DONE]\n\n")
    assert len(seen) >= 6
    # The upstream takes its time between events; what was gathered first would come all at once.
    assert seen[-1][0] - seen[0][0] > 0.3


async def test_a_cut_openai_stream_ends_in_an_error_event_and_without_done(client: Client, alice: Tenant):
    answer = await client.chat(alice.routed(CUT, GOOD), stream=True)

    events = events_of(answer.body)
    assert answer.status == 200
    assert b"[DONE]" not in answer.body
    assert events[-1][1]["error"]["code"] == "answer_cut"
    assert all("choices" in told for _, told in events[:-1])


async def test_a_cut_anthropic_stream_ends_in_an_error_event_and_without_stop(client: Client, alice: Tenant):
    answer = await client.message(alice.routed(CUT, GOOD, provider="anthropic"), stream=True)

    events = events_of(answer.body)
    assert b"message_stop" not in answer.body
    assert events[-1][0] == "error"
    assert events[-1][1]["type"] == "error"


async def test_a_stream_that_ends_with_its_connection_is_whole_once_it_says_why_the_model_stopped(
    client: Client, alice: Tenant
):
    openai = await client.chat(alice.routed(UNFINISHED), stream=True)
    anthropic = await client.message(alice.routed(UNFINISHED, provider="anthropic"), stream=True)

    assert events_of(openai.body)[-1][1]["choices"][0]["finish_reason"] == "stop"
    assert events_of(anthropic.body)[-1][0] == "message_delta"


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}',
        b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":\\"stop\\""},"finish_reason":null}]}',
        b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}',
    ],
)
async def test_a_stream_that_ends_with_its_connection_before_that_is_an_error(
    client: Client, alice: Tenant, event: bytes
):
    async with saying(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event + b"\n\n") as url:
        alice.provider("mine", url)
        answer = await client.chat(alice.token(), "mine:x", stream=True)

    assert events_of(answer.body)[-1][1]["error"]["code"] == "answer_cut"


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("chat/completions", b'data: {"choices":[{"delta":{"content":"x"},"finish_reason": "length"}]}\n\n'),
        ("completions", b'data: {"choices":[{"text":"x","finish_reason":"stop"}]}\n\n'),
        ("messages", b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'),
        ("responses", b'data: {"type":"response.completed","response":{}}\n\n'),
        ("responses", b'event: response.incomplete\ndata: {"type":"response.incomplete","response":{}}\n\n'),
    ],
)
async def test_the_reason_why_a_model_stopped_is_the_end_of_a_stream_that_its_connection_ends(
    client: Client, alice: Tenant, writer: SnapshotWriter, path: str, events: bytes
):
    async with scripted({GOOD: [head(), events, 0.05]}) as upstream:
        alice.provider("mine", upstream.url, *map(SurfaceSupport, Surface))
        body = json.dumps(
            {"model": "mine:m", "messages": [], "input": "", "prompt": "", "max_tokens": 1, "stream": True}
        )
        answer = await client.request("POST", f"/v1/{path}", alice.routed(GOOD, provider="mine"), data=body)

    assert answer.body == events
    (event,) = await writer.usage_of(1)
    assert not event.is_error


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "application/json", "application/x-ndjson"]
)
@pytest.mark.parametrize("lead", [b"", b": hello\n\n", b"\n\n", b"\xef\xbb\xbf"])
async def test_a_stream_under_another_content_type_passes_as_it_comes(
    client: Client, alice: Tenant, content_type: str, lead: bytes
):
    first, _, rest = GOOD_STREAM.partition(b"\n\n")
    script: Script = [head(content_type), lead, 0.02, first + b"\n\n", 0.3, rest]
    async with scripted({GOOD: script}) as upstream:
        alice.provider("mine", upstream.url)
        headers = {"authorization": f"Bearer {alice.routed(GOOD, provider='mine')}"}
        body = json.dumps({"model": "mine:m", "messages": [], "stream": True})
        async with client.session.post(f"{client.url}/v1/chat/completions", data=body, headers=headers) as response:
            seen = await response.content.readany()
            whole = seen + await response.content.read()

    assert b"[DONE]" not in seen
    assert whole == lead + GOOD_STREAM
    assert response.content_type == "text/event-stream"


async def test_no_proxy_and_no_cache_holds_a_stream_back(client: Client, alice: Tenant, upstream: StandIn):
    upstream.headers["cache-control"] = "public, max-age=600"
    upstream.headers["x-accel-buffering"] = "yes"
    answer = await client.chat(alice.routed(GOOD), stream=True)

    assert answer.headers.getall("cache-control") == ["no-cache"]
    assert answer.headers.getall("x-accel-buffering") == ["no"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_of_http_1_0_gets_no_chunks(worker: Running, alice: Tenant, *, stream: bool):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(worker.client.url.rpartition(":")[2]))
    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": stream}).encode()
    token = alice.routed(GOOD)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {token}\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await reader.read()
    writer.close()

    told, _, rest = answer.partition(b"\r\n\r\n")
    assert b"200" in told.split(b"\r\n")[0]
    assert b"transfer-encoding" not in told.lower()
    assert (rest.startswith(b"data: {") and rest.endswith(b"[DONE]\n\n")) if stream else json.loads(rest)["choices"]


async def test_an_answer_without_events_that_breaks_off_is_a_failure_before_its_first_byte(
    client: Client, alice: Tenant, upstream: StandIn
):
    answer = await client.chat(alice.routed(CUT, GOOD))

    assert answer.status == 200
    assert answer.json()["choices"]
    assert upstream.keys == [CUT, GOOD]


async def test_the_time_between_chunks_is_bounded(worker: Running, alice: Tenant, upstream: StandIn):
    token = alice.routed(GOOD)
    await worker.reaches(alice.settings(per_request_timeout="300ms"))
    upstream.stall_after = 2

    began = time.monotonic()
    answer = await worker.client.chat(token, stream=True)

    assert time.monotonic() - began < stretched(5)
    assert events_of(answer.body)[-1][1]["error"]["code"] == "answer_cut"
    await eventually(lambda: upstream.cut_off == 1)


async def test_a_running_stream_is_bounded_by_its_own_limit_and_not_by_the_total(
    worker: Running, alice: Tenant, upstream: StandIn
):
    token = alice.routed(GOOD)
    await worker.reaches(alice.settings(total_timeout="300ms", stream_timeout="900ms"))
    upstream.pause, upstream.events = 0.1, 100

    began = time.monotonic()
    answer = await worker.client.chat(token, stream=True)

    assert time.monotonic() - began > 0.8
    assert events_of(answer.body)[-1][1]["error"]["code"] == "stream_timeout"
    await eventually(lambda: upstream.cut_off == 1)


async def test_a_caller_that_leaves_a_stream_closes_the_upstreams(worker: Running, alice: Tenant, upstream: StandIn):
    token = alice.routed(GOOD)
    upstream.pause, upstream.events = 0.05, 1000
    headers = {"authorization": f"Bearer {token}"}
    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": True})

    async with worker.client.session.post(
        f"{worker.client.url}/v1/chat/completions", data=body, headers=headers
    ) as response:
        await response.content.readany()
        response.close()

    await eventually(lambda: upstream.cut_off == 1, within=1)
    assert worker.worker.upstream.open_connections == 0


async def test_a_slow_reader_holds_the_upstream_back(worker: Running, alice: Tenant, upstream: StandIn):
    """Back-pressure: what the caller does not read is not gathered in the worker."""
    token = alice.routed(GOOD)
    upstream.text = "x" * (64 * 1024 * 1024)
    body = json.dumps({"model": "openai:gpt-4o", "messages": []}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(worker.client.url.rpartition(":")[2]))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(1)

    assert upstream.written < 32 * 1024 * 1024

    writer.close()
    await eventually(lambda: worker.worker.upstream.open_connections == 0)


async def test_the_error_event_of_a_stream_cut_within_a_very_large_event_stands_by_itself(
    client: Client, alice: Tenant
):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999999\r\n\r\n"
    async with saying(head + b'data: {"choices":[]}\n\ndata: ' + b"x" * 3_000_000) as url:
        alice.provider("mine", url)

        answer = await client.chat(alice.token(), "mine:x", stream=True)

    whole, part, error, rest = answer.body.split(b"\n\n")
    assert (whole, rest) == (b'data: {"choices":[]}', b"")
    assert part.startswith(b"data: xxx")
    assert events_of(error)[0][1]["error"]["code"] == "answer_cut"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_only_an_event_that_has_not_ended_is_set_apart_from_what_follows(end: bytes):
    assert apart_from((b"data: 1" + end)[-TAIL:]) == b""
    assert apart_from(b"") == b""
    assert apart_from(b"a: 1") == apart_from(b": 1\n") == apart_from(end[-TAIL:] + b"d") == b"\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_no_half_event_is_passed_on_however_the_bytes_come(size: int, end: bytes):
    whole = end.join([b'data: {"a":"\xc3\xa9"}', b": comment", b"event: x\ndata: 1", b"data: [DONE]", b""])
    stream, passed = EventStream(Surface.CHAT_COMPLETIONS), []

    for start in range(0, len(whole), size):
        part = stream.feed(whole[start : start + size])
        assert not part or part.endswith((b"\n\n", b"\r\n\r\n"))
        passed.append(part)

    assert b"".join(passed) + stream.rest() == whole
    assert stream.has_ended


def test_a_long_event_costs_no_more_than_its_length_however_many_pieces_it_comes_in():
    """Searching what was held once more for each piece would take minutes here."""
    stream, event = EventStream(Surface.CHAT_COMPLETIONS), b"data: " + bytes(1_000_000) + b"\n\n"

    passed = [stream.feed(event[start : start + 50]) for start in range(0, len(event), 50)]

    assert passed[-1] == event
    assert not any(passed[:-1])


CHAT, MESSAGES, RESPONSES = Surface.CHAT_COMPLETIONS, Surface.MESSAGES, Surface.RESPONSES


@pytest.mark.parametrize(
    ("surface", "event", "ends"),
    [
        (CHAT, b"data: [DONE]\n\n", True),
        (CHAT, b"data:[DONE]\n\n", True),
        (CHAT, b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\r\n\r\ndata: [DONE]\r\n\r\n', True),
        (CHAT, b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n', False),
        (MESSAGES, b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True),
        (MESSAGES, b'data: {"type": "message_stop"}\n\n', True),
        (MESSAGES, b'data: {"text":"event: message_stop"}\n\n', False),
        (RESPONSES, b"event: response.completed\ndata: {}\n\n", True),
        (RESPONSES, b"event: response.created\ndata: {}\n\nevent:response.failed\ndata: {}\n\n", True),
        (RESPONSES, b'event: response.created\ndata: {"text":"event: response.completed"}\n\n', False),
    ],
)
def test_only_an_events_own_words_end_a_stream(surface: Surface, event: bytes, ends: bool):
    stream = EventStream(surface)

    stream.feed(b"data: {}\n\n" + event)

    assert stream.has_ended is ends
