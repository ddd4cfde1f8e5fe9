"""Holds: data_plane.http.protocol

Offers to change the protocol are passed over: the request is answered as any other.
"""

import asyncio
import json
from pathlib import Path

import pytest

from local.stand_in import StandIn
from tests.workers import Client, Tenant, worker_process

KEY = "sk-first-0123456789abcdefghij"
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
BODY = json.dumps({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}).encode()
SIZED = b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def request_of(token: str, offer: bytes, rest: bytes) -> bytes:
    """A chat completion as it goes over the wire."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
    return head.encode() + offer + rest


async def statuses(url: str, *parts: bytes, count: int) -> list[int]:
    """The statuses of so many answers to what is written, part by part."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    found = []
    try:
        async with asyncio.timeout(20):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            for _ in range(count):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                found.append(int(head.split()[1]))
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    finally:
        writer.close()
    return found


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("rest", [SIZED, CHUNKED], ids=["sized", "chunked"])
async def test_a_request_that_offers_another_protocol_is_answered_as_any_other(
    client: Client, alice: Tenant, upstream: StandIn, offer: bytes, rest: bytes
):
    request = request_of(alice.routed(KEY), offer, rest)

    assert await statuses(client.url, request, count=1) == [200]

    assert upstream.calls[0].body["messages"][0]["content"] == "Hi"


async def test_an_offer_is_passed_over_wherever_its_bytes_are_parted(client: Client, alice: Tenant):
    request = request_of(alice.routed(KEY), H2C, SIZED)
    begin = request.index(b"upgrade: h2c")

    for at in (begin + 3, begin + 10, request.index(b"\r\n\r\n") + 2, request.index(b"\r\n\r\n") + 4, len(request) - 5):
        assert await statuses(client.url, request[:at], request[at:], count=1) == [200]


async def test_a_connection_serves_on_after_an_offer(client: Client, alice: Tenant):
    token = alice.routed(KEY)
    offering, plain = request_of(token, H2C, SIZED), request_of(token, b"", SIZED)

    assert await statuses(client.url, offering, plain, offering, count=3) == [200, 200, 200]
    assert await statuses(client.url, plain + offering + offering + plain, count=4) == [200, 200, 200, 200]


async def test_a_tunnel_is_refused(client: Client):
    assert await statuses(client.url, b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", count=1) == [400]
    assert await statuses(client.url, b"CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n", count=1) == [400]


async def test_what_is_no_http_is_refused_behind_an_offer_too(client: Client, alice: Tenant):
    request = request_of(alice.routed(KEY), H2C, b"transfer-encoding: chunked\r\n\r\nno size\r\n")

    assert 400 in await statuses(client.url, request, count=1)


async def test_what_is_no_http_is_refused_as_everything_else_is(client: Client):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    writer.write(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")

    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()

    assert head.startswith(b"HTTP/1.1 400 ")
    assert {b"x-request-id", b"gateway-attempts"} <= {line.partition(b":")[0] for line in head.split(b"\r\n")}
    assert json.loads(body)["error"]["code"] == "request_invalid"


async def test_a_worker_as_it_is_started_passes_an_offer_over(environ: dict[str, str], alice: Tenant, tmp_path: Path):
    request = request_of(alice.routed(KEY), H2C, SIZED)

    with worker_process(environ, tmp_path) as process:
        assert await statuses(process.url, request, count=1) == [200]
