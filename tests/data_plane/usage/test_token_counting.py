"""Holds: data_plane.usage.token_counting

What is read out of answers: every dialect of usage, whole and streamed, in pieces of any size.
"""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.forwarding.sse import EventStream
from data_plane.usage.token_counting import asking_for_usage, reader_of
from gateway_core.catalog import Surface
from gateway_core.dialects.usage import Used
from gateway_core.usage_events import MAX_COUNT

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
RESPONSES_USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 8},
}
MESSAGES_USAGE = {
    "input_tokens": 30,
    "cache_creation_input_tokens": 6,
    "cache_read_input_tokens": 64,
    "output_tokens": 20,
}
TOLD = Used(input_tokens=100, output_tokens=20, cache_read_tokens=64, reasoning_tokens=8)

WHOLE: list[tuple[Surface, dict[str, Any], Used]] = [
    (
        Surface.CHAT_COMPLETIONS,
        {"choices": [{"message": {"content": "ja"}, "finish_reason": "length"}], "usage": CHAT_USAGE},
        TOLD._replace(stop_reason="length"),
    ),
    (
        Surface.COMPLETIONS,
        {"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 7}},
        Used(input_tokens=5, output_tokens=7, stop_reason="stop"),
    ),
    (
        Surface.EMBEDDINGS,
        {"data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        Used(input_tokens=8),
    ),
    (Surface.RESPONSES, {"status": "completed", "usage": RESPONSES_USAGE}, TOLD._replace(stop_reason="completed")),
    (
        Surface.RESPONSES,
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": RESPONSES_USAGE},
        TOLD._replace(stop_reason="max_output_tokens"),
    ),
    (
        Surface.MESSAGES,
        {"type": "message", "stop_reason": "end_turn", "usage": MESSAGES_USAGE},
        Used(100, 20, 64, 6, 0, "end_turn"),
    ),
    (
        # DeepSeek's name for the cache.
        Surface.CHAT_COMPLETIONS,
        {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}},
        Used(9, 1, 4),
    ),
]


def sse(*payloads: Any, end: str = "\n") -> bytes:
    events = []
    for payload in payloads:
        name = f"event: {payload['type']}{end}" if isinstance(payload, dict) and "type" in payload else ""
        data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        events.append(f"{name}data: {data}{end}{end}")
    return "".join(events).encode()


def chunk(content: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}], **more}


LAST_CHUNK = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE_CHUNK = {"choices": [], "usage": CHAT_USAGE}
# Words that look like usage, inside of a text.
BAIT = 'he said "usage": {"prompt_tokens": 7} \n\n data: [DONE] ünïcödé 🦆'

STREAMS: list[tuple[Surface, list[Any], Used]] = [
    (
        Surface.CHAT_COMPLETIONS,
        [chunk("Hé"), chunk(BAIT), LAST_CHUNK, USAGE_CHUNK, "[DONE]"],
        TOLD._replace(stop_reason="stop"),
    ),
    (
        # Mistral: with the last choice, unasked.
        Surface.CHAT_COMPLETIONS,
        [chunk("a"), LAST_CHUNK | {"usage": CHAT_USAGE}, "[DONE]"],
        TOLD._replace(stop_reason="stop"),
    ),
    (
        Surface.CHAT_COMPLETIONS,
        [chunk("a"), LAST_CHUNK | {"x_groq": {"id": "r", "usage": CHAT_USAGE}}, "[DONE]"],
        TOLD._replace(stop_reason="stop"),
    ),
    (
        Surface.MESSAGES,
        [
            {"type": "message_start", "message": {"usage": MESSAGES_USAGE | {"output_tokens": 1}}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": BAIT}},
            {"type": "ping"},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 20}},
            {"type": "message_stop"},
        ],
        Used(100, 20, 64, 6, 0, "max_tokens"),
    ),
    (
        # The delta tells everything anew, after a server tool was used.
        Surface.MESSAGES,
        [
            {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGES_USAGE},
            {"type": "message_stop"},
        ],
        Used(100, 20, 64, 6, 0, "end_turn"),
    ),
    (
        Surface.RESPONSES,
        [
            {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
            {"type": "response.output_text.delta", "delta": BAIT},
            {"type": "response.completed", "response": {"status": "completed", "usage": RESPONSES_USAGE}},
        ],
        TOLD._replace(stop_reason="completed"),
    ),
]


@pytest.mark.parametrize(("surface", "answer", "used"), WHOLE)
def test_a_whole_answer_tells_what_it_used(surface: Surface, answer: dict[str, Any], used: Used) -> None:
    reader = reader_of(surface, is_stream=False)

    reader.feed(json.dumps(answer).encode())

    assert reader.used() == used


def test_of_a_long_answer_the_end_is_enough() -> None:
    vectors = [{"embedding": [random.random() for _ in range(1536)]} for _ in range(150)]
    body = json.dumps({"data": vectors, "note": 'no "usage": {"prompt_tokens": 1}', "usage": {"prompt_tokens": 812}})
    reader = reader_of(Surface.EMBEDDINGS, is_stream=False)
    assert len(body) > 4_000_000

    for start in range(0, len(body), 65_536):
        reader.feed(body[start : start + 65_536].encode())

    assert reader.used() == Used(input_tokens=812)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
@pytest.mark.parametrize(("surface", "events", "used"), STREAMS)
def test_a_stream_tells_what_it_used_in_pieces_of_any_size(
    surface: Surface, events: list[Any], used: Used, size: int, end: str
) -> None:
    body = sse(*events, end=end)
    reader, stream = reader_of(surface, is_stream=True), EventStream(surface)

    for start in range(0, len(body), size):
        reader.feed(stream.feed(body[start : start + size]))
    reader.feed(stream.rest())

    assert reader.used() == used


@given(st.data())
def test_however_a_stream_is_cut_it_tells_the_same(data: st.DataObject) -> None:
    surface, events, used = STREAMS[data.draw(st.integers(0, len(STREAMS) - 1))]
    body = sse(*events, end=data.draw(st.sampled_from(["\n", "\r\n"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    reader, stream = reader_of(surface, is_stream=True), EventStream(surface)

    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        reader.feed(stream.feed(body[start:stop]))
    reader.feed(stream.rest())

    assert reader.used() == used


@given(st.binary(max_size=400), st.sampled_from(Surface), st.booleans())
def test_no_answer_is_too_strange_to_be_read(body: bytes, surface: Surface, is_stream: bool) -> None:
    for text in (body, b'data: {"usage": {' + body + b"}}\n\n", b'{"usage": ' + body + b"}"):
        reader = reader_of(surface, is_stream=is_stream)
        reader.feed(text)

        assert reader.used().input_tokens >= 0
        assert reader.estimated(5).output_tokens >= 0


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": 10**30},
        {"prompt_tokens": "7", "completion_tokens": 1e300},
        {"prompt_tokens": True, "completion_tokens": MAX_COUNT + 1},
        {"prompt_tokens": None, "completion_tokens": MAX_COUNT, "prompt_tokens_details": [1]},
        {"prompt_tokens": {}, "completion_tokens": 2.0**40, "completion_tokens_details": "x"},
    ],
)
def test_counts_that_are_none_are_bounded(usage: dict[str, Any]) -> None:
    reader = reader_of(Surface.CHAT_COMPLETIONS, is_stream=False)

    reader.feed(json.dumps({"usage": usage, "choices": [{"finish_reason": "x" * 999 + "\x00"}]}).encode())

    assert reader.used() == Used(0, MAX_COUNT, stop_reason="x" * 255)


def test_a_stream_that_broke_off_is_counted_by_its_events() -> None:
    reader = reader_of(Surface.CHAT_COMPLETIONS, is_stream=True)

    reader.feed(sse(*[chunk("a")] * 12))

    assert reader.used() == Used()
    assert reader.estimated(34) == Used(input_tokens=34, output_tokens=12, usage_estimated=True)


def test_a_broken_messages_stream_keeps_the_input_that_it_told() -> None:
    reader = reader_of(Surface.MESSAGES, is_stream=True)

    reader.feed(sse({"type": "message_start", "message": {"usage": MESSAGES_USAGE | {"output_tokens": 1}}}))
    reader.feed(sse(*[{"type": "content_block_delta", "delta": {"text": "a"}}] * 9))

    assert reader.estimated(1) == Used(100, 10, 64, 6, usage_estimated=True)


def test_a_stream_that_told_its_usage_is_not_estimated() -> None:
    reader = reader_of(Surface.CHAT_COMPLETIONS, is_stream=True)

    reader.feed(sse(*[chunk("a")] * 50, USAGE_CHUNK))

    assert reader.estimated(7) == TOLD


# ── the usage chunk ──


def members(**given: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()}


@pytest.mark.parametrize(
    ("surface", "body", "options"),
    [
        (Surface.CHAT_COMPLETIONS, members(stream=True), {"include_usage": True}),
        (Surface.COMPLETIONS, members(stream=True, stream_options=None), {"include_usage": True}),
        (
            Surface.CHAT_COMPLETIONS,
            members(stream=True, stream_options={"include_usage": False, "include_obfuscation": False}),
            {"include_usage": True, "include_obfuscation": False},
        ),
        (Surface.CHAT_COMPLETIONS, members(stream=True, stream_options={"include_usage": True}), None),
        (Surface.CHAT_COMPLETIONS, members(stream=True, stream_options="x"), None),
        (Surface.CHAT_COMPLETIONS, members(stream=False), None),
        (Surface.CHAT_COMPLETIONS, members(), None),
        (Surface.RESPONSES, members(stream=True), None),
        (Surface.MESSAGES, members(stream=True), None),
        (Surface.EMBEDDINGS, members(stream=True), None),
    ],
)
def test_the_worker_asks_for_usage_where_the_caller_did_not(
    surface: Surface, body: dict[str, msgspec.Raw], options: dict[str, bool] | None
) -> None:
    asked = asking_for_usage(surface, body)

    assert (asked if asked is None else msgspec.json.decode(asked)) == options


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_usage_chunk_is_kept_from_who_did_not_ask(end: str) -> None:
    asked = sse(
        chunk("a", usage=None), chunk(BAIT, usage=None), LAST_CHUNK | {"usage": None}, USAGE_CHUNK, "[DONE]", end=end
    )

    passed = reader_of(Surface.CHAT_COMPLETIONS, is_stream=True, is_stripping=True).feed(asked)

    assert passed == sse(chunk("a"), chunk(BAIT), LAST_CHUNK, "[DONE]", end=end)


@pytest.mark.parametrize(
    "events",
    [
        [chunk('the word "usage":null}')],
        [LAST_CHUNK | {"usage": CHAT_USAGE}],
        [{"choices": [], "prompt_filter_results": []}],
        [{"choices": [], "usage": "none"}],
        ["not json usage", {"error": {"message": '"usage"'}}],
    ],
)
def test_nothing_else_is_taken_out(events: list[Any]) -> None:
    reader = reader_of(Surface.CHAT_COMPLETIONS, is_stream=True, is_stripping=True)

    assert reader.feed(sse(*events)) == sse(*events)
