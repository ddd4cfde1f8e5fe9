"""Holds: data_plane.forwarding.codings

A compressed body is taken like any other, within the same bounds, and broken data is the caller's fault.
"""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Callable

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
from tests.workers import Client, Tenant

KEY = "sk-first-0123456789abcdefghij"
BODY = msgspec.json.encode({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Ünïcode " * 500}]})


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


WAYS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("identity, gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity", bytes),
    ("", bytes),
]


def share(limits: RequestLimits | None = None) -> Share:
    """A place for one request."""
    return Budget(limits or RequestLimits()).enter("ac_a", "aigk_a")


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


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "aes128gcm"])
async def test_another_coding_is_415_with_those_that_are_taken(client: Client, alice: Tenant, coding: str):
    answer = await client.chat(alice.token(), raw=BODY, headers={"content-encoding": coding})

    assert (answer.status, answer.code) == (415, "coding_not_taken")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        BODY,
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY)[:10],
        gzip.compress(BODY) + b"x",
        gzip.compress(BODY) * 2,
        gzip.compress(BODY)[:-8] + b"\0" * 8,
        zlib.compress(BODY),
    ],
    ids=["empty", "plain", "cut", "head", "more", "twice", "checksum", "zlib"],
)
async def test_broken_data_is_400(client: Client, alice: Tenant, raw: bytes):
    async with client.session.post(
        f"{client.url}/v1/chat/completions",
        data=raw,
        headers={"authorization": f"Bearer {alice.token()}", "content-encoding": "gzip"},
    ) as answer:
        assert (answer.status, answer.headers["gateway-error"]) == (400, "coding_broken")


async def test_a_body_that_grows_over_the_limit_is_refused_before_it_is_whole():
    held = share()

    with pytest.raises(BodyTooLarge):
        await codings.decoded(gzip.compress(b" " * (BODY_LIMIT + 1)), b"gzip", held)

    whole = await codings.decoded(gzip.compress(b" " * BODY_LIMIT, 1), b"gzip", share())
    assert len(whole) == BODY_LIMIT


async def test_what_is_decoded_counts_against_the_bounds_on_bodies():
    with pytest.raises(BodiesInFlight):
        await codings.decoded(
            gzip.compress(b" " * 2_000_000), b"gzip", share(RequestLimits(body_bytes_per_key=1_000_000))
        )


async def test_others_get_their_turn_while_a_body_is_decoded():
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await codings.decoded(gzip.compress(b" " * 8_000_000), b"gzip", share())
    counting.cancel()

    assert turns >= 10


@given(st.binary(max_size=2000), st.integers(0, 9), st.integers(1, 800))
def test_every_body_comes_back_as_it_was(body: bytes, level: int, times: int):
    whole = body * times
    for coding, made in ((b"gzip", gzip.compress(whole, level)), (b"deflate", zlib.compress(whole, level))):
        assert asyncio.run(codings.decoded(made, coding, share())) == whole


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_any_bytes_are_decoded_or_refused(raw: bytes, coding: bytes):
    with contextlib.suppress(CodingBroken):
        assert isinstance(asyncio.run(codings.decoded(raw, coding, share())), bytes)


@pytest.mark.parametrize("value", [b"br", b"gzip,deflate", b"gzip;q=1"])
def test_a_coding_that_is_not_known_exactly_is_refused(value: bytes):
    with pytest.raises(CodingNotTaken):
        codings.coding_of([(b"content-encoding", value)])
