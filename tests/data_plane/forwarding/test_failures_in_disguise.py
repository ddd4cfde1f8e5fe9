"""Holds: data_plane.forwarding.beginnings, data_plane.forwarding.contents, data_plane.forwarding.one_attempt

Failures that look like something else: trouble of the key under 400, errors under 200, streams without content.
"""

import json
from typing import Any

import pytest

from data_plane.forwarding.contents import Sight, fails_within, see
from gateway_core.catalog import Surface
from gateway_core.snapshot import SurfaceSupport
from tests.scripted_upstream import (
    GOOD,
    GOOD_MESSAGE,
    GOOD_RESPONSE,
    GOOD_STREAM,
    Script,
    answer,
    head,
    scripted,
)
from tests.workers import Client, Running, SnapshotWriter, Tenant, events_of

KEYS = ("bad-key-0123456789", "good-key-0123456789")
PATHS: dict[str, tuple[str, dict[str, Any], bytes, bytes]] = {
    "chat": ("/v1/chat/completions", {"messages": []}, GOOD, GOOD_STREAM),
    "responses": ("/v1/responses", {"input": "Hi"}, b'{"object":"response","output":[],"error":null}', GOOD_RESPONSE),
    "messages": ("/v1/messages", {"messages": [], "max_tokens": 5}, b'{"type":"message","content":[]}', GOOD_MESSAGE),
}


async def ask(client: Client, token: str, surface: str, *, stream: bool = False, **headers: str) -> Any:
    """A request on a surface."""
    path, members, _, _ = PATHS[surface]
    body = json.dumps({"model": "mine:m", "stream": stream} | members)
    return await client.request("POST", path, token, data=body, headers=headers)


def routed(alice: Tenant, url: str, *keys: str) -> str:
    """A token whose requests for `mine` try these keys in order."""
    alice.provider("mine", url, *map(SurfaceSupport, Surface))
    return alice.routed(*(keys or KEYS), provider="mine")


KEY_TROUBLE = [
    (
        400,
        {"error": {"message": "Your credit balance is too low to use it.", "type": "invalid_request_error"}},
        "messages",
    ),
    (400, {"error": {"message": "This organization has been disabled."}}, "messages"),
    (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."}, "chat"),
    (400, {"error": {"code": "Arrearage", "message": "Access denied."}}, "chat"),
    (404, {"error": {"code": "insufficient_user_quota", "message": "None left"}}, "chat"),
    (422, {"detail": "Invalid API key"}, "responses"),
    (
        400,
        {"error": {"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached"}},
        "responses",
    ),
]


@pytest.mark.parametrize(("status", "body", "surface"), KEY_TROUBLE)
async def test_trouble_of_the_key_under_another_status_moves_on_to_the_next_key(
    client: Client, alice: Tenant, writer: SnapshotWriter, status: int, body: Any, surface: str
):
    good = PATHS[surface][2]
    refusal = answer(json.dumps(body).encode(), status)
    async with scripted({KEYS[0]: [refusal], KEYS[1]: [answer(good)]}) as upstream:
        told = await ask(client, routed(alice, upstream.url), surface)

    assert (told.status, told.body) == (200, good)
    assert upstream.keys == list(KEYS)
    failed, _ = await writer.usage_of(2)
    assert (failed.status, failed.is_error) == (status, True)
    assert failed.meant_status in {401, 402, 403}


async def test_a_callers_words_in_a_refusal_do_not_take_the_key_out(client: Client, alice: Tenant):
    refusal = answer(b'{"error":{"message":"no such role: \'Your credit balance is too low\'"}}', 400)
    async with scripted({KEYS[0]: [refusal], KEYS[1]: [answer(GOOD)]}) as upstream:
        told = await ask(client, routed(alice, upstream.url), "messages")

    assert told.status == 400
    assert upstream.keys == [KEYS[0]]
    assert told.headers["x-should-retry"] == "false"


NO_ANSWERS = {
    "empty": b"",
    "blank": b"\n\n\n",
    "html": b"<!doctype html><title>Just a moment</title>",
    "error": b'{"error":{"message":"The engine is overloaded","code":503}}',
    "error as text": b'{"error":"model is loading"}',
    "vllm": b'{"object":"error","message":"boom","type":"InternalServerError","code":500}',
    "fastapi": b'{"detail":"Not Found"}',
    "minimax": b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"},"choices":null}',
    "openrouter": b'{"id":"gen-1","choices":[],"error":{"code":502,"message":"Provider returned error"}}',
    "anthropic": b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    "plain": b"upstream connect error",
}


@pytest.mark.parametrize("surface", PATHS)
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_answer_under_200_is_a_failed_attempt(
    client: Client, alice: Tenant, body: bytes, surface: str
):
    good = PATHS[surface][2]
    async with scripted({KEYS[0]: [answer(body)], KEYS[1]: [answer(good)]}) as upstream:
        told = await ask(client, routed(alice, upstream.url), surface)

    assert (told.status, told.body) == (200, good)
    assert upstream.keys == list(KEYS)


LIFE = {
    "chat": b': PROCESSING\n\ndata: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
    "responses": (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","error":null}}'
        b'\n\ndata: {"type":"response.in_progress","sequence_number":1,"response":{}}\n\n'
    ),
    "messages": (
        b'event: message_start\ndata: {"type":"message_start","message":{"content":[]}}\n\n'
        b'event: ping\ndata: {"type": "ping"}\n\n\n\n'
    ),
}
ERRORS = {
    "chat": b'data: {"error":{"message":"engine died","code":500}}\n\n',
    "responses": b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"message":"no"}}}\n\n',
    "messages": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
}
ENDS = {
    "chat": b"data: [DONE]\n\n",
    "responses": b"data: [DONE]\n\n",
    "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}


@pytest.mark.parametrize("surface", PATHS)
@pytest.mark.parametrize("kind", ["error first", "error after life", "end first", "end after life", "nothing", "html"])
async def test_a_stream_without_content_is_a_failed_attempt(client: Client, alice: Tenant, surface: str, kind: str):
    script = {
        "error first": ERRORS[surface],
        "error after life": LIFE[surface] + ERRORS[surface],
        "end first": ENDS[surface],
        "end after life": LIFE[surface] + ENDS[surface],
        "nothing": b"",
        "html": b"<html>busy</html>",
    }[kind]
    good = PATHS[surface][3]
    async with scripted({KEYS[0]: [head(), script], KEYS[1]: [head(), good]}) as upstream:
        told = await ask(client, routed(alice, upstream.url), surface, stream=True)

    assert (told.status, told.body) == (200, good)
    assert upstream.keys == list(KEYS)


@pytest.mark.parametrize("surface", PATHS)
async def test_signs_of_life_go_out_in_order_with_the_first_content_and_are_not_timed_out(
    worker: Running, alice: Tenant, surface: str
):
    good = PATHS[surface][3]
    pauses: Script = [head(), *(step for _ in range(4) for step in (LIFE[surface], 0.15)), good]
    async with scripted({KEYS[0]: pauses}) as upstream:
        token = routed(alice, upstream.url, KEYS[0])
        await worker.reaches(alice.settings(per_request_timeout="400ms"))
        told = await ask(worker.client, token, surface, stream=True)

    assert told.body == LIFE[surface] * 4 + good


async def test_empty_lines_before_a_whole_answer_show_life(worker: Running, alice: Tenant):
    pauses: Script = [head("application/json"), *(step for _ in range(4) for step in (b"\n", 0.15)), GOOD]
    async with scripted({KEYS[0]: pauses}) as upstream:
        token = routed(alice, upstream.url, KEYS[0])
        await worker.reaches(alice.settings(per_request_timeout="400ms"))
        told = await ask(worker.client, token, "chat")

    assert told.json()["choices"][0]["message"]["content"] == "good"


async def test_signs_of_life_that_stop_are_timed_out_and_the_next_key_answers(worker: Running, alice: Tenant):
    async with scripted({KEYS[0]: [head(), LIFE["chat"], 30.0], KEYS[1]: [head(), GOOD_STREAM]}) as upstream:
        token = routed(alice, upstream.url)
        await worker.reaches(alice.settings(per_request_timeout="200ms"))
        told = await ask(worker.client, token, "chat", stream=True)

    assert told.body == GOOD_STREAM
    assert upstream.keys == list(KEYS)


async def test_the_total_timeout_bounds_signs_of_life(worker: Running, alice: Tenant):
    async with scripted({KEYS[0]: [head(), *(step for _ in range(99) for step in (b": alive\n\n", 0.05))]}) as upstream:
        token = routed(alice, upstream.url, KEYS[0])
        await worker.reaches(alice.settings(total_timeout="400ms"))
        told = await ask(worker.client, token, "chat", stream=True)

    assert (told.status, told.code) == (504, "total_timeout")


@pytest.mark.parametrize("surface", PATHS)
async def test_an_error_after_content_passes_and_is_an_error_in_the_usage(
    client: Client, alice: Tenant, writer: SnapshotWriter, surface: str
):
    content = PATHS[surface][3].partition(b"\n\n")[0] + b"\n\n"
    async with scripted(
        {KEYS[0]: [head(), content, 0.05, ERRORS[surface]], KEYS[1]: [head(), GOOD_STREAM]}
    ) as upstream:
        told = await ask(client, routed(alice, upstream.url), surface, stream=True)

    assert told.body == content + ERRORS[surface]
    assert upstream.keys == [KEYS[0]]
    (event,) = await writer.usage_of(1)
    assert (event.is_error, event.is_final, event.status) == (True, True, 200)


async def test_a_model_that_says_nothing_but_stops_has_answered(client: Client, alice: Tenant):
    silent = LIFE["chat"] + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with scripted({KEYS[0]: [head(), silent]}) as upstream:
        told = await ask(client, routed(alice, upstream.url), "chat", stream=True)

    assert told.body == silent
    assert events_of(told.body[told.body.index(b"data") :])


@pytest.mark.parametrize(
    ("event", "sight"),
    [
        (b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n', Sight.LIFE),
        (b'data: {"choices":[{"delta":{"role":"assistant","content":null,"refusal":null}}]}\n\n', Sight.LIFE),
        (b'data: {"choices": [], "prompt_filter_results": []}\n\n', Sight.LIFE),
        (b'data: {"choices":[{"delta":{"role":"assistant","tool_calls":[{"index":0}]}}]}\n\n', Sight.CONTENT),
        (b'data: {"choices":[{"delta":{"role":"assistant","reasoning_content":"hm"}}]}\n\n', Sight.CONTENT),
        (b'data: {"choices":[{"text":"","finish_reason":null}]}\n\n', Sight.LIFE),
        (b'data: {"choices":[{"text":"x"}]}\n\n', Sight.CONTENT),
        (b'data: {"choices":[{"delta":{"content":"say \\"error\\""}}]}\n\n', Sight.CONTENT),
        (b'data: {"choices":[{"delta":{"content":""},"finish_reason":"error"}]}\n\n', Sight.FAILURE),
        (b'data: {"choices":[{"delta":{"role":"assistant"},"finish_reason":"error"}]}\n\n', Sight.FAILURE),
        (b"event: error\ndata: overloaded\n\n", Sight.FAILURE),
        (b": one\n\n: two\n\nretry: 5\n\n", Sight.LIFE),
    ],
)
def test_what_an_event_is_to_its_caller(event: bytes, sight: Sight):
    assert see(event, Surface.CHAT_COMPLETIONS).sight is sight


@pytest.mark.parametrize(
    ("events", "fails"),
    [
        (b'data: {"choices":[{"delta":{"content":"a \\"error\\": b"}}]}\n\n', False),
        (b'data: {"choices":[{"delta":{"tool":"error"}}]}\n\n', False),
        (b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n', False),
        (b'data: {"choices":[]}\n\ndata: {"error": {"message": "x"}}\n\n', True),
        (b'event: error\ndata: {"message":"x"}\n\n', True),
        (b'data: {"type":"error","error":{}}\n\n', True),
    ],
)
def test_only_an_error_is_one(events: bytes, fails: bool):
    assert fails_within(events) is fails


@pytest.mark.parametrize(
    ("surface", "reason"), [("chat", "engine died"), ("responses", "no"), ("messages", "Overloaded")]
)
async def test_the_reason_of_an_error_in_a_stream_is_passed_on_at_once(
    client: Client, alice: Tenant, surface: str, reason: str
):
    async with scripted({KEYS[0]: [head(), LIFE[surface] + ERRORS[surface], PATHS[surface][3]]}) as upstream:
        told = await ask(client, routed(alice, upstream.url, KEYS[0]), surface, stream=True)

    assert told.status == 502
    assert f"The upstream says: {reason}." in told.json()["error"]["message"]
