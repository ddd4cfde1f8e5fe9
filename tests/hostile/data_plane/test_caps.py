"""Holds: data_plane.forwarding.text_counting, data_plane.forwarding.limits

Caps hold for whatever a model would read, times the answers asked for, and counting costs others nothing.
"""

import json
import time
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.errors import MemberInvalid
from data_plane.forwarding.bodies import Body
from data_plane.forwarding.governed import COUNTS, MAXIMA
from data_plane.forwarding.limits import check_output, estimated_input_tokens, lowered_maxima
from data_plane.forwarding.text_counting import counted
from data_plane.turns import Turns
from gateway_core.catalog import Surface
from local.stand_in import StandIn
from tests.patience import stretched
from tests.steps import result_of
from tests.tiers import number
from tests.workers import Running, Tenant

KEY = "sk-first-0123456789abcdefghij"
CHAT = Surface.CHAT_COMPLETIONS


def raws(**values: Any) -> dict[str, msgspec.Raw]:
    """A body's members."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


def whole(value: bytes) -> float:
    """The count of a JSON value."""
    return list(counted(value))[-1].characters


def shown(value: Any) -> int:
    """The least that a count of a value must be: the characters of every text and name, with a word's exceptions."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(shown, value))
    return sum(len(name) + shown(inner) for name, inner in value.items()) if isinstance(value, dict) else 0


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["data:" + "x" * 99, 'a"\\\n\t', "\\u0041", "\\", '"', "\ud7ff\U0001f600"]
)
NAMES = st.sampled_from(["x", "text2", "Type", "urls", "unknown"])
JSON = st.recursive(
    TEXTS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_every_character_of_every_text_counts_however_it_is_written(value: Any, is_ascii: bool, indent: int | None):
    written = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode()

    count = whole(written)

    assert count >= shown(value)
    # Beside its texts each value, name, object and list counts one.
    pieces = sum(written.count(mark) for mark in (b'"', b"{", b"["))
    assert count <= shown(value) * (2 if is_ascii else 1) + pieces + 1


@given(st.text(max_size=400), st.integers(1, 90))
def test_a_text_counts_the_same_in_whatever_slices_it_is_read(text: str, slice_length: int):
    written = json.dumps({"content": [text, {"x": text}]}, ensure_ascii=False).encode()
    expected = whole(written)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_plane.forwarding.text_counting._SLICE", max(16, slice_length))
        patched = whole(written)

    assert abs(patched - expected) <= 5 * (1 + len(written) // 16)
    if "\\" not in text and text.isascii() and '"' not in text:
        assert patched == expected


COSTLY = {
    "numbers": lambda size: b"[" + b"1," * (size // 2) + b"1]",
    "one text": lambda size: b'"' + b"x" * size + b'"',
    "escaped quotes": lambda size: b'"' + b'\\"' * (size // 2) + b'"',
    "escapes": lambda size: b'"' + b"\\u0041" * (size // 6) + b'"',
    "empty texts": lambda size: b"[" + b'"",' * (size // 3) + b'""]',
    "lists": lambda size: b"[" + b"[]," * (size // 3) + b"[]]",
    "messages": lambda size: b"[" + b'{"role":"user","content":""},' * (size // 29) + b"{}]",
    "picture": lambda size: b'{"image_url":{"url":"data:image/png;base64,' + b"A" * size + b'"}}',
    "blanks": lambda size: b"[" + b" " * size + b"]",
    "nested": lambda size: b"[" * 500 + b"1," * (size // 2) + b"1" + b"]" * 500,
    "unicode": lambda size: b'"' + "é".encode() * (size // 2) + b'"',
}


@pytest.mark.parametrize("kind", COSTLY)
def test_no_step_of_a_count_is_long_and_none_needs_memory(kind: str):
    body = COSTLY[kind](number(2, full=32) * 1024 * 1024)
    steps: list[float] = []
    counting, is_done = counted(memoryview(body)), False
    while not is_done and len(steps) < 600:
        began = time.thread_time()
        is_done = next(counting, None) is None
        steps.append(time.thread_time() - began)
    tracemalloc.start()
    # Traced, a step takes many times as long.
    for _ in zip(range(50), counted(memoryview(body)), strict=False):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # The machine may be busy for one or two of them.
    assert sorted(steps)[max(0, len(steps) - 4)] < stretched(0.005)
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("kind", COSTLY)
def test_an_estimate_ends_within_its_time(kind: str):
    members = {"messages": msgspec.Raw(COSTLY[kind](8 * 1024 * 1024))}

    began = time.thread_time()
    tokens = estimated_input_tokens(members)

    assert time.thread_time() - began < stretched(0.05)
    assert tokens > 0


DISGUISED = {
    "data in a text": {"messages": [{"role": "user", "content": "data:" + "x" * 1000}]},
    "data in a part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "data:," + "x" * 1000}]}]},
    "data in a url": {"messages": [{"role": "user", "content": [{"url": "data:image/png;base64," + "x" * 1000}]}]},
    "plain document": {"messages": [{"content": [{"source": {"type": "text", "data": "x" * 1000}}]}]},
    "type twice": b'{"messages":[{"source":{"type":"base64","media_type":"image/png","type":"text","data":"%b"}}]',
    "type in capitals": b'{"messages":[{"source":{"type":"base64","Type":"text","data":"%b"}}]',
    "type escaped": b'{"messages":[{"source":{"type":"base64","typ\\u0065":"text","data":"%b"}}]',
    "documents": {"messages": [], "documents": [{"text": "x" * 1000}]},
    "prediction": {"messages": [], "prediction": {"content": "x" * 1000}},
    "role": {"messages": [{"role": "x" * 1000, "content": ""}]},
    "name of a member": {"messages": [{"x" * 1000: ""}]},
    "identifier": {"messages": [{"id": "x" * 1000}]},
    "nobody knows it": {"messages": [], "history": ["x" * 1000]},
}


@pytest.mark.parametrize("kind", DISGUISED)
async def test_no_disguise_passes_the_cap_on_input(worker: Running, alice: Tenant, upstream: StandIn, kind: str):
    alice.keys(KEY)
    token = alice.token()
    await worker.reaches(alice.settings(max_input_tokens=100))
    given = DISGUISED[kind]
    body = given.replace(b"%b", b"x" * 1000) + b"}" if isinstance(given, bytes) else json.dumps(given).encode()

    answer = await worker.client.chat(token, raw=b'{"model":"openai:gpt-4o",' + body[1:])

    assert (answer.status, answer.code) == (413, "input_too_long")
    assert upstream.calls == []


@given(
    st.sampled_from([one for one in Surface if one is not Surface.EMBEDDINGS]),
    st.dictionaries(st.sampled_from(COUNTS), st.none() | st.integers(1, 200)),
    st.dictionaries(st.sampled_from(MAXIMA), st.none() | st.integers(-2, 10**6) | st.text(max_size=3)),
    st.sampled_from(["x", ["x", "y", "z"], [1, 2], [[1], [2]]]),
    st.integers(200 * 3, 10_000),
)
def test_all_answers_together_stay_within_the_cap(
    surface: Surface, counts: dict[str, Any], maxima: dict[str, Any], prompt: Any, limit: int
):
    members = raws(**counts, **maxima, prompt=prompt)

    answers = result_of(check_output(surface, Body(members, ("x",)), limit, Turns()))
    sent = members | lowered_maxima(surface, members, limit, answers, provider="mine", parameters=None)

    told = [msgspec.json.decode(sent[name]) for name in MAXIMA if name in sent]
    prompts = 1 if surface is not Surface.COMPLETIONS or prompt in ("x", [1, 2]) else len(prompt)
    most = max([1, *(count for count in counts.values() if count)]) * prompts
    assert answers == most
    assert [value for value in told if value is not None]
    assert all(0 < value * most <= limit for value in told if value is not None)


@pytest.mark.parametrize(
    "members",
    [
        {"n": 101},
        {"best_of": 101},
        {"n": "2"},
        {"n": 1.5},
        {"n": 0},
        {"n": -1},
        {"best_of": [1]},
        {"candidate_count": 101},
    ],
)
async def test_more_answers_than_tokens_are_refused(
    worker: Running, alice: Tenant, upstream: StandIn, members: dict[str, Any]
):
    alice.keys(KEY)
    token = alice.token()
    await worker.reaches(alice.settings(max_output_tokens=100))

    answer = await worker.client.chat(token, **members)

    assert (answer.status, answer.code) == (400, "member_invalid")
    assert upstream.calls == []


@pytest.mark.parametrize("length", [10, 300_000], ids=["short", "long"])
def test_prompts_are_counted_however_long_they_are(length: int):
    body = Body(raws(prompt=["x" * length, "y", "z"]), ("x",))

    assert result_of(check_output(Surface.COMPLETIONS, body, 3, Turns())) == 3
    with pytest.raises(MemberInvalid):
        result_of(check_output(Surface.COMPLETIONS, body, 2, Turns()))
