"""Holds: data_plane.forwarding.codings

A compressed body is taken like any other, within the same bounds, and broken data is the caller's fault.
"""

import contextlib
import gzip
import sys
import zlib
from collections.abc import Callable

import brotli
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.errors import BodiesInFlight, BodyTooLarge, CodingBroken, CodingNotTaken
from data_plane.forwarding import codings
from data_plane.forwarding.bodies import BODY_LIMIT
from data_plane.forwarding.budget import Budget, Share
from data_plane.settings import RequestLimits
from local.stand_in import StandIn
from tests.steps import result_of
from tests.workers import Client, Tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KEY = "sk-first-0123456789abcdefghij"
BODY = msgspec.json.encode({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Ünïcode " * 500}]})


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


def streamed_zstd(body: bytes) -> bytes:
    """A frame that does not say how long its content is, in two blocks."""
    made = zstd.ZstdCompressor()
    half = len(body) // 2
    return made.compress(body[:half], made.FLUSH_BLOCK) + made.compress(body[half:]) + made.flush()


WAYS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("identity, gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("BR", brotli.compress),
    ("zstd", zstd.compress),
    ("zstd", streamed_zstd),
    ("identity", bytes),
    ("", bytes),
]
Compress = Callable[[bytes], bytes]


def quick_brotli(body: bytes) -> bytes:
    """Its best takes seconds."""
    return bytes(brotli.compress(body, quality=2))


EACH: list[tuple[bytes, Compress]] = [
    (b"gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"br", quick_brotli),
    (b"zstd", zstd.compress),
]


def share(limits: RequestLimits | None = None) -> Share:
    """A place for one request."""
    return Budget(limits or RequestLimits()).enter("ac_a", "aigk_a")


def decoded(raw: bytes, coding: bytes, held: Share) -> bytes:
    """A body as it was before it was compressed."""
    return bytes(result_of(codings.decode(raw, coding, held)))


@pytest.mark.parametrize(("coding", "compress"), WAYS)
async def test_a_compressed_body_reaches_the_upstream_plain(
    client: Client, alice: Tenant, upstream: StandIn, coding: str, compress: Callable[[bytes], bytes]
):
    alice.keys(KEY)
    headers = {"content-encoding": coding}

    answer = await client.chat(alice.token(), raw=compress(BODY), headers=headers)

    assert answer.status == 200
    assert msgspec.json.decode(upstream.calls[0].raw)["messages"] == msgspec.json.decode(BODY)["messages"]
    assert "content-encoding" not in {name.lower() for name in upstream.calls[0].headers}


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip", "br, gzip", "aes128gcm", "dcz"])
async def test_another_coding_is_415_with_those_that_are_taken(client: Client, alice: Tenant, coding: str):
    answer = await client.chat(alice.token(), raw=BODY, headers={"content-encoding": coding})

    assert (answer.status, answer.code) == (415, "coding_not_taken")
    assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"


@pytest.mark.parametrize(
    ("coding", "raw"),
    [
        ("gzip", b""),
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY)[:-1]),
        ("gzip", gzip.compress(BODY)[:10]),
        ("gzip", gzip.compress(BODY) + b"x"),
        ("gzip", gzip.compress(BODY) * 2),
        ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
        ("gzip", zlib.compress(BODY)),
        ("br", b""),
        ("br", BODY),
        ("br", brotli.compress(BODY)[:-1]),
        ("br", brotli.compress(BODY) + b"x"),
        ("zstd", b""),
        ("zstd", BODY),
        ("zstd", zstd.compress(BODY)[:-1]),
        ("zstd", zstd.compress(BODY) + b"x"),
        ("zstd", zstd.compress(BODY) * 2),
        ("zstd", zstd.compress(BODY, options={zstd.CompressionParameter.checksum_flag: 1})[:-4] + b"\0" * 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_broken_data_is_400(client: Client, alice: Tenant, coding: str, raw: bytes):
    async with client.session.post(
        f"{client.url}/v1/chat/completions",
        data=raw,
        headers={"authorization": f"Bearer {alice.token()}", "content-encoding": coding},
    ) as answer:
        assert (answer.status, answer.headers["gateway-error"]) == (400, "coding_broken")


@pytest.mark.parametrize(("coding", "compress"), EACH)
def test_a_body_that_grows_over_the_limit_is_refused_before_it_is_whole(coding: bytes, compress: Compress):
    held = share()

    with pytest.raises(BodyTooLarge):
        decoded(compress(b" " * (BODY_LIMIT + 1)), coding, held)

    whole = decoded(compress(b" " * BODY_LIMIT), coding, share())
    assert len(whole) == BODY_LIMIT


def test_a_zstd_window_larger_than_anybody_needs_is_refused():
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    made = zstd.ZstdCompressor(options=options)

    with pytest.raises(CodingBroken):
        decoded(made.compress(b"x" * 100) + made.flush(), b"zstd", share())


@pytest.mark.parametrize(("coding", "compress"), EACH)
def test_what_is_decoded_counts_against_the_bounds_on_bodies(coding: bytes, compress: Compress):
    with pytest.raises(BodiesInFlight):
        decoded(compress(b" " * 2_000_000), coding, share(RequestLimits(body_bytes_per_key=1_000_000)))


@pytest.mark.parametrize(("coding", "compress"), EACH)
def test_others_get_their_turn_while_a_body_is_decoded(coding: bytes, compress: Compress):
    steps = codings.decode(compress(b" " * 8_000_000), coding, share())

    assert len(list(steps)) >= 10


@given(st.binary(max_size=2000), st.integers(0, 9), st.integers(1, 800))
def test_every_body_comes_back_as_it_was(body: bytes, level: int, times: int):
    whole = body * times
    made_so = {
        b"gzip": gzip.compress(whole, level),
        b"deflate": zlib.compress(whole, level),
        b"br": brotli.compress(whole, quality=level),
        b"zstd": zstd.compress(whole, level),
    }
    for coding, made in made_so.items():
        assert decoded(made, coding, share()) == whole


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate", b"br", b"zstd"]))
def test_any_bytes_are_decoded_or_refused(raw: bytes, coding: bytes):
    with contextlib.suppress(CodingBroken):
        assert isinstance(decoded(raw, coding, share()), bytes)


@pytest.mark.parametrize("value", [b"brotli", b"gzip,deflate", b"gzip;q=1"])
def test_a_coding_that_is_not_known_exactly_is_refused(value: bytes):
    with pytest.raises(CodingNotTaken):
        codings.coding_of([(b"content-encoding", value)])
