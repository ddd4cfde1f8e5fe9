"""Holds: gateway_core.dialects.usage, data_plane.usage.member_scan

Usage as upstreams really write it: what stands beside, what only the total knows, long events and odd spacing.
"""

import base64
import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.forwarding.sse import EventStream
from data_plane.usage.member_scan import MemberScan
from data_plane.usage.token_counting import reader_of
from gateway_core.catalog import Surface
from gateway_core.dialects.usage import Used, used_of

CHAT, RESPONSES, MESSAGES = Surface.CHAT_COMPLETIONS, Surface.RESPONSES, Surface.MESSAGES

WRITTEN: dict[str, tuple[dict[str, Any], Used]] = {
    "xai_reasons_beside_the_completion": (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        Used(32, 103, reasoning_tokens=94),
    ),
    "reasoning_that_cannot_be_within_without_a_total": (
        {"prompt_tokens": 32, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 94}},
        Used(32, 103, reasoning_tokens=94),
    ),
    "gemini_thinks_in_the_total_alone": (
        {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 330},
        Used(10, 320, reasoning_tokens=300),
    ),
    "openai_reasons_within": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 320,
            "total_tokens": 330,
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        Used(10, 320, reasoning_tokens=300),
    ),
    "litellm_writes_both_spellings_within": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 5,
            "total_tokens": 1005,
            "prompt_tokens_details": {"cached_tokens": 600, "cache_creation_tokens": 100},
            "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 100,
        },
        Used(1000, 5, 600, 100),
    ),
    "litellm_without_a_total": (
        {"prompt_tokens": 1000, "completion_tokens": 5, "cache_read_input_tokens": 600},
        Used(1000, 5, 600),
    ),
    "both_spellings_beside_by_the_total": (
        {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 1505, "cache_read_input_tokens": 600},
        Used(1500, 5, 600),
    ),
    "caches_larger_than_the_input_are_beside": (
        {"prompt_tokens": 10, "completion_tokens": 5, "cache_read_input_tokens": 600},
        Used(610, 5, 600),
    ),
    "anthropic_counts_beside": (
        {"input_tokens": 700, "output_tokens": 5, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 1},
        Used(1301, 5, 600, 1),
    ),
    "anthropic_keeps_for_an_hour": (
        {
            "input_tokens": 1,
            "output_tokens": 5,
            "cache_creation_input_tokens": 90,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 70},
        },
        Used(91, 5, 0, 90, cache_write_1h_tokens=70),
    ),
    "anthropic_searches_and_is_fast": (
        {
            "input_tokens": 1,
            "output_tokens": 5,
            "server_tool_use": {"web_search_requests": 3},
            "speed": "fast",
            "service_tier": "standard",
        },
        Used(1, 5, web_searches=3, service_tier="fast"),
    ),
    "anthropic_lists_compactions_beside_the_sums": (
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "iterations": [
                {"type": "compaction", "input_tokens": 900, "output_tokens": 40},
                {"type": "message", "input_tokens": 10, "output_tokens": 5},
            ],
        },
        Used(910, 45),
    ),
    "openai_writes_to_its_cache": (
        {
            "input_tokens": 100,
            "output_tokens": 5,
            "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 70},
        },
        Used(100, 5, 20, 70),
    ),
    "dashscope_writes_to_its_cache": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_creation_input_tokens": 80,
                "cache_creation": {"ephemeral_1h_input_tokens": 30},
            },
        },
        Used(100, 5, 0, 80, cache_write_1h_tokens=30),
    ),
    "moonshot_reads_at_the_top": (
        {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10},
        Used(19, 21, 10),
    ),
    "openai_hears_and_speaks": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 60,
            "total_tokens": 160,
            "prompt_tokens_details": {
                "audio_tokens": 80,
                "cached_tokens": 40,
                "cached_tokens_details": {"text_tokens": 8, "audio_tokens": 32},
            },
            "completion_tokens_details": {"audio_tokens": 50, "text_tokens": 10},
        },
        Used(100, 60, 40, input_audio_tokens=80, cache_read_audio_tokens=32, output_audio_tokens=50),
    ),
    "pictures_in_and_out": (
        {
            "input_tokens": 50,
            "output_tokens": 1056,
            "total_tokens": 1106,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens_details": {"image_tokens": 1056},
        },
        Used(50, 1056, input_image_tokens=40, output_image_tokens=1056),
    ),
    "embeddings_with_a_total_alone": ({"total_tokens": 8}, Used(8)),
    "a_total_that_is_too_small_takes_nothing_away": (
        {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 3},
        Used(10, 20),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_usage_is_read_as_its_upstream_means_it(name: str) -> None:
    usage, used = WRITTEN[name]

    assert used_of(usage) == used


NUMBERS = st.integers(0, 5000)
NAMES = sorted(
    {name for usage, _ in WRITTEN.values() for name in usage if not isinstance(usage[name], dict | list | str)}
)


@given(st.dictionaries(st.sampled_from(NAMES), NUMBERS), NUMBERS, NUMBERS)
def test_parts_are_never_more_than_what_contains_them(usage: dict[str, Any], cached: int, reasoning: int) -> None:
    used = used_of(
        usage
        | {"prompt_tokens_details": {"cached_tokens": cached}}
        | {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    )

    assert used.cache_read_tokens + used.cache_write_tokens <= used.input_tokens
    assert used.reasoning_tokens <= used.output_tokens
    assert used.input_tokens + used.output_tokens >= usage.get("total_tokens", 0)


def fed(surface: Surface, body: bytes, size: int = 65_536, *, is_stripping: bool = False) -> tuple[Used, bytes]:
    reader, stream = reader_of(surface, is_stream=True, is_stripping=is_stripping), EventStream(surface)
    passed = [reader.feed(stream.feed(body[start : start + size])) for start in range(0, len(body), size)]
    passed.append(reader.feed(stream.rest()))
    return reader.used(), b"".join(passed)


def events(*payloads: dict[str, Any] | str) -> bytes:
    return b"".join(
        b"data: " + (one if isinstance(one, str) else json.dumps(one)).encode() + b"\n\n" for one in payloads
    )


def test_no_number_falls_within_one_stream() -> None:
    started = {"type": "message_start", "message": {"usage": {"input_tokens": 500, "cache_read_input_tokens": 40}}}
    ended = {"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 9, "cache_read_input_tokens": 0}}

    assert fed(MESSAGES, events(started, ended))[0] == Used(540, 9, 40)


@pytest.mark.parametrize("last", [{"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, {"usage": None}, {}])
def test_no_later_chunk_takes_usage_back(last: dict[str, Any]) -> None:
    first = {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}

    assert fed(CHAT, events(first, {"choices": []} | last, "[DONE]"))[0] == Used(7, 3)


def test_moonshot_tells_its_usage_within_the_choice() -> None:
    usage = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]}

    assert fed(CHAT, events({"choices": [{"delta": {"content": "a"}}]}, last, "[DONE]"))[0] == Used(
        19, 13, stop_reason="stop"
    )
    whole = reader_of(CHAT, is_stream=False)
    whole.feed(json.dumps(last).encode())
    assert whole.used() == Used(19, 13, stop_reason="stop")


@pytest.mark.parametrize("first", [b'{"choices":[]}', b'{"choices": []}', b'{ "choices" :[ ] }'])
@pytest.mark.parametrize(
    "last",
    [
        b'{"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}',
        b'{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}',
        b'{"choices":[] , "usage" : { "prompt_tokens" : 4, "completion_tokens" : 2 } }',
        b'{"usage"\t:\t{"prompt_tokens":4,"completion_tokens":2}}',
    ],
)
def test_spacing_may_change_within_a_stream(first: bytes, last: bytes) -> None:
    body = b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (first, last)

    assert fed(CHAT, body)[0] == Used(4, 2)


@pytest.mark.parametrize("surface", [CHAT, MESSAGES])
def test_the_reason_of_the_stop_is_found_in_any_spacing(surface: Surface) -> None:
    told = b'"finish_reason" : "length"' if surface is CHAT else b'"stop_reason"  :"length"'
    member = b'"choices":[{%b}]' if surface is CHAT else b'"type":"message_delta","delta":{%b}'
    body = b'data: {"a":1}\n\ndata: {' + member % told + b"}\n\n"

    assert fed(surface, body)[0].stop_reason == "length"


PICTURE = base64.b64encode(random.Random(1).randbytes(6_000_000)).decode()
BAIT = {
    "usage": {"input_tokens": 10**6},
    "text": '"usage": {"input_tokens": 5}',
    "list": [{"usage": {"input_tokens": 7}}],
}
USAGE = {"input_tokens": 40, "output_tokens": 1056, "output_tokens_details": {"image_tokens": 1056}}
TOLD = Used(40, 1056, output_image_tokens=1056)


@pytest.mark.parametrize("size", [1000, 65_536, 3_000_000])
@pytest.mark.parametrize("order", ["front", "middle", "end"])
def test_usage_is_found_in_an_event_of_many_megabytes(order: str, size: int) -> None:
    output = [{"type": "image_generation_call", "result": PICTURE, "arguments": BAIT}]
    parts: dict[str, Any] = {"status": "completed", "service_tier": "flex"}
    if order == "front":
        parts |= {"usage": USAGE, "output": output}
    elif order == "middle":
        parts |= {"output": output, "usage": USAGE, "tools": [PICTURE]}
    else:
        parts |= {"output": output, "tools": output, "usage": USAGE}
    body = events({"type": "response.created"}, {"type": "response.completed", "response": parts}, {"type": "after"})

    used, passed = fed(RESPONSES, body, size)

    assert used == TOLD._replace(stop_reason="completed", service_tier="flex")
    assert passed == body


@pytest.mark.parametrize("order", ["front", "end"])
def test_usage_is_found_in_a_whole_answer_of_many_megabytes(order: str) -> None:
    output: dict[str, Any] = {"output": [{"result": PICTURE, "input": BAIT}]}
    parts = {"usage": USAGE} | output if order == "front" else output | {"usage": USAGE}
    body = json.dumps({"status": "completed"} | parts).encode()
    reader = reader_of(RESPONSES, is_stream=False)

    tracemalloc.start()
    for start in range(0, len(body), 65_536):
        reader.feed(body[start : start + 65_536])
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reader.used() == TOLD._replace(stop_reason="completed")
    assert most < 2_500_000, held


def test_a_stream_is_stripped_behind_an_event_of_many_megabytes() -> None:
    long = {"choices": [{"delta": {"content": PICTURE}, "finish_reason": None}], "usage": None}
    asked = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    body = events(long, asked, "[DONE]")

    used, passed = fed(CHAT, body, is_stripping=True)

    assert used == Used(4, 2)
    assert passed == events(long, "[DONE]")


PLACES = {"usage": True, "choices": {"[]": {"usage": True, "finish_reason": True}}, "response": {"usage": True}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6) | st.just('"usage": {"a": 1}'),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "choices", "response", "finish_reason", 'q"\\', "é"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def expected(value: Any, places: Any) -> Any:
    """What a scan has to find: texts, objects and lists at the places."""
    found: dict[str, Any] = {}
    for name, one in value.items() if isinstance(value, dict) else ():
        inner = places.get(name)
        if inner is True and isinstance(one, str | dict | list):
            found[name] = one
        elif isinstance(inner, dict) and "[]" in inner and isinstance(one, list):
            merged: dict[str, Any] = {}
            for element in one:
                merged |= expected(element, inner["[]"])
            found[name] = [merged]
        elif isinstance(inner, dict) and "[]" not in inner and isinstance(one, dict):
            found[name] = expected(one, inner)
    return found


@given(st.dictionaries(st.sampled_from(["usage", "choices", "response", "other"]), JSON), st.data())
def test_a_scan_finds_what_a_decoder_finds_however_it_is_cut(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(
        value, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1]))
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    scan = MemberScan(PLACES)

    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        scan.feed(text[start:stop])

    assert scan.found == expected(value, PLACES)


@given(st.binary(max_size=300))
def test_no_text_is_too_strange_to_be_scanned(text: bytes) -> None:
    scan = MemberScan(PLACES)

    scan.feed(b'{"usage": {"a"' + text)
    scan.feed(text)

    assert isinstance(scan.found, dict)
