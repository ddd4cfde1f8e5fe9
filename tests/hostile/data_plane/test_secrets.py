"""Holds: data_plane.forwarding.guarding, data_plane.forwarding.secrets_filter

No secret of an upstream reaches a caller, wherever the upstream repeats it and however it writes it.
"""

import asyncio
import base64
import gzip
import itertools
import json
import re
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import brotli
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_plane.forwarding.guarding import EncodingBroken, _Decoded, _Guarded
from data_plane.forwarding.secrets_filter import Secret, secret_of
from gateway_core.redaction import mask
from tests.patience import stretched
from tests.tiers import number
from tests.workers import Client, Running, SnapshotWriter, Tenant, saying

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Its base64 has a `/` and a `+` in some alignment; its characters are those of every vendor's keys, and some more.
VALUE = "sk-or-v1/0123+456_789~abcdefghij?ABCDEFGHIJ"


def _each(form: Callable[[int], str]) -> str:
    return "".join(form(ord(character)) for character in VALUE)


ESCAPES = {
    "plain": VALUE,
    "json, lower": _each(lambda code: f"\\u{code:04x}"),
    "json, upper": _each(lambda code: f"\\u{code:04X}"),
    "json, punctuation alone": re.sub(r"[-+/~?_]", lambda found: f"\\u{ord(found[0]):04x}", VALUE),
    "json, slash": VALUE.replace("/", "\\/"),
    "json in json": _each(lambda code: f"\\\\u{code:04x}"),
    "javascript": _each(lambda code: f"\\x{code:02x}"),
    "percent": _each(lambda code: f"%{code:02x}"),
    "percent, punctuation alone": VALUE.replace("/", "%2F").replace("+", "%2B"),
    "percent, twice": _each(lambda code: f"%25{code:02X}"),
    "html": _each(lambda code: f"&#{code};"),
    "html, hexadecimal": _each(lambda code: f"&#x{code:x};"),
    "hexadecimal": VALUE.encode().hex(),
    "hexadecimal, upper": VALUE.encode().hex().upper(),
    **{f"base64, {n}": base64.b64encode(b"x" * n + VALUE.encode() + b"yz").decode() for n in range(3)},
    **{f"base64 of urls, {n}": base64.urlsafe_b64encode(b"x" * n + VALUE.encode()).decode() for n in range(3)},
    "base64 in json": base64.b64encode(VALUE.encode()).decode().replace("/", "\\/").replace("+", "\\u002b"),
}


def readings(body: bytes) -> list[str]:
    """A text and what it may mean: its escapes undone, its words read as base64 and hexadecimal."""
    text = body.decode("latin-1")
    plain = re.sub(r"\\+u00([0-9a-fA-F]{2})|\\+x([0-9a-fA-F]{2})", lambda m: chr(int(m[1] or m[2], 16)), text)
    plain = re.sub(r"&#(?:x([0-9a-f]+)|(\d+));", lambda m: chr(int(m[1], 16) if m[1] else int(m[2])), plain)
    plain = re.sub(r"\\+/", "/", unquote(unquote(plain)))
    found = [text, plain]
    for word in re.findall(r"[A-Za-z0-9+/_-]{16,}", plain):
        for start in range(4):
            part = word[start:].replace("-", "+").replace("_", "/")
            found.append(base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1"))
        if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", word):
            found.append(bytes.fromhex(word).decode("latin-1"))
    return found


def assert_hidden(body: bytes) -> None:
    assert not [text for text in readings(body) if VALUE in text or VALUE[4:30] in text]


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_test_itself_reads_every_escape(escape: str):
    assert any(VALUE[4:30] in text for text in readings(ESCAPES[escape].encode()))


def _head(status: str, headers: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n".encode()


def _whole(status: str, body: bytes, headers: str = "") -> bytes:
    return _head(status, headers, len(body)) + body


def _error(text: str) -> bytes:
    return b'{"error":{"message":"No such key: %b."}}' % text.encode()


def _completion(text: str) -> bytes:
    return b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % text.encode()


_EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n'


def _chunked(*pieces: bytes, kind: str = "text/event-stream", headers: str = "", trailer: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + body + b"0\r\n" + trailer.encode() + b"\r\n"


def _stream(*texts: str) -> list[bytes]:
    return [*(_EVENT % text.encode() for text in texts), b"data: [DONE]\n\n"]


def _cut(body: bytes, text: str) -> list[bytes]:
    """A body in pieces, one of which ends within the text."""
    place = body.index(text.encode()) + len(text) // 2
    return [body[:place], body[place:]]


FILLER = "x " * 550_000
PLACES: dict[str, Callable[[str], bytes]] = {
    "header": lambda text: _whole("200 OK", _completion("Hi"), f"Request-Id: {text}\r\n"),
    "reason": lambda text: _whole(f"400 {text}", _error("x")),
    "4xx": lambda text: _whole("400 Bad Request", _error(text)),
    "200": lambda text: _whole("200 OK", _completion(text)),
    "over the limit": lambda text: _whole("200 OK", _completion(FILLER + text + FILLER)),
    "refusal over the limit": lambda text: _whole("404 Not Found", _error(FILLER + text)),
    "first event": lambda text: _chunked(*_stream(text, "b")),
    "later event": lambda text: _chunked(*_stream("a", text)),
    "stop reason": lambda text: _whole("200 OK", b'{"choices":[{"finish_reason":"%b"}]}' % text.encode()),
    "event cut": lambda text: _chunked(*_cut(b"".join(_stream("a", text)), text)),
    "body cut": lambda text: _chunked(*_cut(_completion(text), text), kind="application/json"),
    "large body cut": lambda text: _chunked(*_cut(_completion(FILLER + text), text), kind="application/json"),
    "large event cut": lambda text: _chunked(*_cut(b"".join(_stream("a", FILLER + text)), text)),
    "trailer": lambda text: _chunked(*_stream("a"), trailer=f"Request-Id: {text}\r\n"),
    "error event": lambda text: _chunked(*_stream("a")[:1], b"event: error\ndata: " + _error(text) + b"\n\n"),
    "gzip": lambda text: _whole("400 No", gzip.compress(_error(text)), "Content-Encoding: gzip\r\n"),
    "brotli": lambda text: _whole("400 No", brotli.compress(_error(text)), "Content-Encoding: br\r\n"),
    "zstd stream": lambda text: _chunked(
        zstd.compress(b"".join(_stream("a", text))), headers="Content-Encoding: zstd\r\n"
    ),
    "deflate stream": lambda text: _chunked(
        zlib.compress(b"".join(_stream("a", text))), headers="Content-Encoding: deflate\r\n"
    ),
}


@pytest.mark.parametrize("place", PLACES)
async def test_in_every_place_every_escape_is_hidden(client: Client, alice: Tenant, writer: SnapshotWriter, place: str):
    # Bodies of megabytes are costly to look through.
    step = number(4, full=1) if "large" in place or "limit" in place else 1
    for place_of, (escape, text) in enumerate(list(ESCAPES.items())[::step]):
        # JSON has no such escape: the answer's usage would not be read.
        if place == "stop reason" and "\\x" in text:
            continue
        async with saying(PLACES[place](text)) as url:
            alice.provider(f"up{place_of}", url)
            alice.keys(VALUE, provider=f"up{place_of}")
            answer = await client.chat(alice.token(), f"up{place_of}:x", stream="event" in place or "stream" in place)

        assert answer.status in {200, 400, 404}, (escape, answer.body[:500])
        assert answer.body
        assert_hidden(answer.body)
        assert_hidden(str(answer.headers).encode())
    asked = len(list(ESCAPES)[::step]) - (place == "stop reason")
    for event in await writer.usage_of(asked):
        assert_hidden(event.stop_reason.encode())


@pytest.mark.parametrize("place", ["header", "4xx", "200", "first event", "gzip"])
async def test_a_managed_key_is_hidden_whole(make_worker: Any, alice: Tenant, writer: SnapshotWriter, place: str):
    writer.managed(openai=VALUE)
    alice.settings(has_credits=True)
    async with saying(PLACES[place](VALUE)) as url:
        worker: Running = await make_worker(upstream_base_urls={"openai": f"{url}/v1"})
        answer = await worker.client.chat(alice.token(), stream="event" in place)

    assert answer.status in {200, 400}
    assert VALUE[:10].encode() not in answer.body + str(answer.headers).encode()
    assert VALUE[-4:].encode() not in answer.body + str(answer.headers).encode()


@pytest.mark.parametrize("half", ["sk-or-v1****************GHIJ", "sk-o***GHIJ"])
async def test_a_mask_that_the_upstream_made_of_a_managed_key_is_hidden(
    make_worker: Any, alice: Tenant, writer: SnapshotWriter, half: str
):
    writer.managed(openai=VALUE)
    alice.settings(has_credits=True)
    async with saying(PLACES["4xx"](half)) as url:
        worker: Running = await make_worker(upstream_base_urls={"openai": f"{url}/v1"})
        answer = await worker.client.chat(alice.token())

    assert answer.status == 400
    assert not {b"GHIJ", b"sk-o"} & {answer.body[i : i + 4] for i in range(len(answer.body))}


async def test_an_encoding_that_is_not_known_fails_its_attempt(client: Client, alice: Tenant):
    # In an encoding of its own it might hold anything, so a body that reads like an answer is none either.
    async with saying(_whole("200 OK", _completion("Hi"), "Content-Encoding: compress\r\n")) as url:
        alice.provider("mine", url)
        answer = await client.chat(alice.token(), "mine:x")

    assert (answer.status, answer.code) == (502, "attempts_failed")


COMPRESSIONS = pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstd.compress)]
)


@COMPRESSIONS
@pytest.mark.parametrize("cut", [1, 8, 30])
async def test_a_compressed_answer_that_ends_too_early_fails_its_attempt(
    client: Client, alice: Tenant, coding: str, compress: Callable[[bytes], bytes], cut: int
):
    body = compress(_completion("Hi there"))[:-cut]
    async with saying(_whole("200 OK", body, f"Content-Encoding: {coding}\r\n")) as url:
        alice.provider("mine", url)
        answer = await client.chat(alice.token(), "mine:x")

    assert answer.status == 502


@COMPRESSIONS
async def test_a_small_answer_that_becomes_large_is_passed_in_pieces(
    client: Client, alice: Tenant, coding: str, compress: Callable[[bytes], bytes]
):
    body = compress(_completion("x" * 30_000_000))
    async with saying(_whole("200 OK", body, f"Content-Encoding: {coding}\r\n")) as url:
        alice.provider("mine", url)
        answer = await client.chat(alice.token(), "mine:x")

    assert answer.status == 200
    assert len(answer.json()["choices"][0]["message"]["content"]) == 30_000_000
    assert "content-encoding" not in answer.headers


# ── without a network ──


class Pieces:
    """A body in given pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def at_eof(self) -> bool:
        return not self._pieces


async def _read(content: Any) -> list[bytes]:
    pieces = []
    while not content.at_eof():
        pieces.append(await content.readany())
    return pieces


SECRET = Secret(VALUE, mask(VALUE))


def hidden(secret: Secret, data: bytes) -> bytes:
    """The data without the secret."""
    hiding = secret.hidden_in(data)
    while True:
        try:
            next(hiding)
        except StopIteration as done:
            return bytes(done.value)


@pytest.mark.parametrize("value", [VALUE, "k" * 4096])
@pytest.mark.parametrize("text", [b"%41", b"\\u0041", b"x", b"k", b"kkkk***", VALUE.encode()])
async def test_others_get_their_turn_while_a_large_piece_is_searched(value: str, text: bytes):
    body = b"%20" + text * (250_000 // len(text))
    turns: list[float] = []

    async def take_turns() -> None:
        while True:
            turns.append(time.thread_time())
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    read = b"".join(await _read(_Guarded(Pieces(body), Secret(value, "***"))))
    other.cancel()

    assert len(read) == len(body)
    waits = sorted(after - before for before, after in itertools.pairwise(turns))
    # The machine may be busy in one of them.
    assert waits[-2] < stretched(0.008)


@given(
    st.lists(st.sampled_from([*ESCAPES.values(), VALUE[:20], "\n", "text", '"', "%", "\\u00"]), max_size=6),
    st.lists(st.integers(0, 3000), max_size=4),
)
def test_however_a_body_is_cut_it_keeps_its_length_and_loses_the_secret(parts: list[str], cuts: list[int]):
    body = " ".join(parts).encode()
    places = sorted({min(cut, len(body)) for cut in cuts})
    pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True) if a < b]

    read = b"".join(asyncio.run(_read(_Guarded(Pieces(*pieces), SECRET))))

    assert len(read) == len(body)
    assert_hidden(read)
    if not set(parts) & set(ESCAPES.values()):
        assert read == body


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_a_whole_event_waits_for_nothing(end: bytes):
    events = [b"data: " + VALUE[:5].encode() + end, b"data: sk" + end]

    assert await _read(_Guarded(Pieces(*events), SECRET)) == events


async def test_only_what_may_begin_an_occurrence_waits():
    read = await _read(_Guarded(Pieces(b"data: a\n\ndata: b", b"\n\n"), SECRET))

    assert read == [b"data: a\n\n", b"data: b\n\n"]


def test_what_was_sent_is_replaced_by_its_mask():
    shown = hidden(SECRET, b'"' + VALUE.encode() + b'"').decode()

    assert shown.startswith(f'"{mask(VALUE)}*')
    assert len(shown) == len(VALUE) + 2


@pytest.mark.parametrize("value", ["", "none", "ollama", "1234567"])
def test_a_value_that_other_texts_may_mean_is_not_looked_for(value: str):
    assert secret_of(value, None) is None


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60))
@example("000000\\'")
@example('00&#00;"')
def test_any_value_is_hidden_and_texts_without_it_are_left_alone(value: str):
    secret = Secret(value, mask(value))
    escaped = json.dumps({"error": f"key {value}"}).encode()
    url = b"".join(b"%%%02X" % byte for byte in value.encode())

    for data in (value.encode(), escaped, url, base64.b64encode(value.encode())):
        assert secret.is_suspected_in(data)
        assert value not in unquote(hidden(secret, data).decode().replace("\\\\", "\\").replace('\\"', '"'))
    for text in (b"", b'{"content":"100% \\u00e9 \\n &#39; \\\\ \\/"}'):
        assert hidden(secret, text) == text


@pytest.mark.parametrize("cut", range(1, 60, 7))
@pytest.mark.parametrize("how", ["gzip", "deflate", "raw deflate", "two parts"])
async def test_a_compressed_body_is_read_in_whatever_pieces(how: str, cut: int):
    body = json.dumps({"text": "abc" * 40_000}).encode()
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    encoded = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
        "two parts": gzip.compress(body[:50]) + gzip.compress(body[50:]),
    }[how]
    pieces = [encoded[start : start + cut] for start in range(0, len(encoded), cut)]
    encoding = "deflate" if "deflate" in how else "gzip"

    read = await _read(_Decoded(Pieces(*pieces), encoding))

    assert b"".join(read) == body
    assert max(map(len, read)) <= 64 * 1024
    with pytest.raises(EncodingBroken):
        await _read(_Decoded(Pieces(encoded[:-1]), encoding))
