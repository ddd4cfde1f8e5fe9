"""Holds: data_plane.forwarding.upstream

Connections to upstreams: judged by the address that they are made to, at the moment they are made.
"""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from data_plane.forwarding import upstream as way_out
from data_plane.forwarding.answers import AnswerMalformed
from data_plane.forwarding.upstream import AddressDenied, Upstream, Way, trusted_by_this_machine
from gateway_core.addresses import AddressPolicy
from local.stand_in import StandIn
from tests.scripted_upstream import GOOD, answer
from tests.workers import Running, Tenant, free_port

STRICT = AddressPolicy()
# Long enough for any connection on this machine.
SOON = 5.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket on the loopback address that nobody should ever reach."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.fixture
async def sessions():
    """The way out by itself."""
    found = Upstream()
    yield found
    await found.close()


def was_reached(listening: socket.socket) -> bool:
    """Whether a connection waits there."""
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "0.0.0.0",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
    ],
)
async def test_no_spelling_of_this_machine_is_connected_to(sessions: Upstream, listener: socket.socket, host: str):
    url = URL(f"http://{host}:{listener.getsockname()[1]}/v1", encoded=True)

    with pytest.raises((aiohttp.ClientError, OSError, ValueError)):
        await asyncio.wait_for(sessions.send(Way(STRICT, url), {}, [b"{}"]), SOON)

    assert not was_reached(listener)


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "[fd00::1]", "[64:ff9b::a9fe:a9fe]", "168.63.129.16"])
async def test_a_denied_address_gets_no_socket(sessions: Upstream, host: str, monkeypatch: pytest.MonkeyPatch):
    made: list[object] = []
    original = socket.socket

    def make(*args: int) -> socket.socket:
        made.append(args)
        return original(*args)

    monkeypatch.setattr("data_plane.forwarding.upstream.socket.socket", make)

    with pytest.raises(aiohttp.ClientConnectorError) as denied:
        await asyncio.wait_for(sessions.send(Way(STRICT, URL(f"http://{host}/v1")), {}, [b"{}"]), SOON)

    assert isinstance(denied.value.os_error, AddressDenied)
    assert not made


async def test_a_name_that_changes_its_answer_between_check_and_connect_reaches_nothing(
    sessions: Upstream, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    """The resolver says a good address, the connection is about to go to another: the socket is what is judged."""
    port = listener.getsockname()[1]
    asked: list[str] = []

    async def resolve(_self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(way_out._CheckingResolver, "resolve", resolve)

    for _ in range(50):
        with pytest.raises(aiohttp.ClientConnectorError):
            await asyncio.wait_for(
                sessions.send(Way(STRICT, URL(f"http://rebinding.example:{port}/v1")), {}, [b"{}"]), SOON
            )

    assert asked
    assert not was_reached(listener)


async def test_one_policys_connections_serve_no_other_policy(sessions: Upstream, upstream: StandIn):
    lenient = AddressPolicy(loopback=True)
    url = URL(f"{upstream.url}/chat/completions")
    answer = await sessions.send(Way(lenient, url), {}, [b'{"model":"m"}'])
    while await answer.content.readany():
        pass

    with pytest.raises(aiohttp.ClientConnectorError):
        await asyncio.wait_for(sessions.send(Way(STRICT, url), {}, [b"{}"]), SOON)


async def test_a_redirect_is_not_followed_and_counts_as_a_failure(worker: Running, alice: Tenant, upstream: StandIn):
    answer = await worker.client.chat(alice.routed("sk-a-302-0123456789abcdefgh"))

    assert answer.status == 502
    assert "location" not in answer.headers
    assert len(upstream.calls) == 1


async def test_in_evaluation_mode_the_gateways_own_ports_are_no_upstream(make_worker, alice: Tenant, upstream: StandIn):
    own = free_port()
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", own)
    base = await make_worker()
    rules = base.worker.settings.upstream_rules
    worker = await make_worker(upstream_rules=rules._replace(own_ports=rules.own_ports | {own}))
    alice.provider("inward", f"http://127.0.0.1:{own}")
    alice.provider("ollama", upstream.url)
    token = alice.token()

    assert await worker.client.status(token, model="inward:m") == 502
    assert await worker.client.status(token, model="ollama:m") == 200
    assert not upstream.calls[0].key
    listening.close()


async def test_in_production_mode_a_custom_provider_on_the_loopback_address_is_not_called(
    make_worker, alice: Tenant, upstream: StandIn
):
    base = await make_worker()
    worker = await make_worker(upstream_rules=base.worker.settings.upstream_rules._replace(loopback=False))
    alice.provider("inward", upstream.url)
    alice.keys("sk-good-0123456789abcdefghij")
    token = alice.token()

    assert await worker.client.status(token, model="inward:m") == 502
    assert not upstream.calls
    # What the operator named himself stays where he put it.
    assert await worker.client.status(token) == 200


@asynccontextmanager
async def taking(serve: Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]):
    """A server whose connections are numbered from 1; a way to it. Ends with every connection ended."""
    tasks: list[asyncio.Task[object] | None] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        await serve(len(tasks), reader, writer)
        writer.transport.abort()

    async with await asyncio.start_server(take, "127.0.0.1", 0, limit=1024) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield Way(AddressPolicy(loopback=True), URL(f"http://127.0.0.1:{port}/"))
        await asyncio.gather(*filter(None, tasks))


async def test_what_came_unasked_is_no_answer_to_the_next_request(sessions: Upstream):
    """An upstream that answers twice: the second answer would be the next request's, maybe another account's."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d"

    async def answer_twice(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer % number)
        await asyncio.sleep(0.05)
        writer.write(answer % 9)
        await asyncio.sleep(0.5)

    told = []
    async with taking(answer_twice) as way:
        for _ in range(2):
            told.append(await (await sessions.send(way, {}, [b""])).content.readany())
            await asyncio.sleep(0.2)

    assert told == [b"1", b"2"]


@pytest.mark.parametrize(
    "head",
    [
        b"101 Switching Protocols",
        b"204 No Content",
        b"204 No Content\r\ncontent-length: 39",
        b"304 Not Modified\r\ncontent-length: 39",
        b"103 Early Hints\r\ncontent-length: 39",
        b"103 Early Hints\r\ntransfer-encoding: chunked",
    ],
)
async def test_a_body_behind_a_head_that_can_have_none_is_no_answer_to_the_next_request(
    sessions: Upstream, head: bytes
):
    """It may be what another account's prompt made of it."""

    async def answer(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(b"HTTP/1.1 %b\r\n\r\n" % head)
            # Until the next request is here, or the connection is closed.
            await asyncio.wait([asyncio.ensure_future(reader.readline())], timeout=0.2)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)
        await asyncio.sleep(0.2)

    async with taking(answer) as way:
        with suppress(AnswerMalformed):
            assert (await sessions.send(way, {}, [b""])).status in {101, 204, 304}
        second = await sessions.send(way, {}, [b""])
        told = await second.content.readany()
        second.close()

    assert told == b"2"


KEPT = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d"


@pytest.mark.parametrize("how", ["in good order", "by a reset", "with the body unread"])
async def test_a_kept_connection_that_was_closed_as_the_request_went_out_is_replaced_once(sessions: Upstream, how: str):
    async def keep_and_close(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(KEPT % number)
        if number == 1:
            await reader.readuntil(b"\r\n\r\n" if how != "with the body unread" else b"POST")
            if how == "in good order":
                writer.close()
        else:
            await reader.read()

    async with taking(keep_and_close) as way:
        told = []
        for body in (b"", b"x" * 100_000):
            answer = await sessions.send(way, {}, [body])
            told.append(await answer.content.readany())
        await sessions.close()

    assert told == [b"1", b"2"]


@pytest.mark.parametrize(
    ("answers", "made"),
    [
        # A connection that was not kept is not replaced.
        ([b""], 1),
        # Nor is a kept one of which some of the answer came, were it a line or a byte.
        ([KEPT % 1 + b"HTTP/1.1 200 OK\r\n"], 1),
        ([KEPT % 1 + b"H"], 1),
        # Nor is the one that came in its place.
        ([KEPT % 1, b""], 2),
    ],
)
async def test_no_other_lost_connection_is_replaced(sessions: Upstream, answers: list[bytes], made: int):
    seen = 0

    async def answer(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = number
        first, kept, rest = answers[number - 1].partition(KEPT % 1)
        writer.write(first + kept)
        if kept:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(rest)
        await writer.drain()

    async def ask_twice(way: Way) -> None:
        for _ in range(2):
            await (await sessions.send(way, {}, [b""])).content.readany()

    async with taking(answer) as way:
        with pytest.raises(aiohttp.ClientError):
            await ask_twice(way)

    assert seen == made


async def test_a_connection_is_dropped_before_common_servers_drop_it(
    sessions: Upstream, monkeypatch: pytest.MonkeyPatch
):
    """Node.js and uvicorn wait for 5 s."""
    assert way_out._KEEPALIVE_SECONDS < 5
    monkeypatch.setattr(way_out, "_KEEPALIVE_SECONDS", 0.0)

    async def keep(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(KEPT % number)
        await reader.read()

    async with taking(keep) as way:
        told = [await (await sessions.send(way, {}, [b""])).content.readany() for _ in range(2)]
        await sessions.close()

    assert told == [b"1", b"2"]


async def test_the_caller_sees_nothing_of_a_connection_that_was_replaced(
    make_worker, environ: dict[str, str], alice: Tenant
):
    requests: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                requests.append(1)
                if len(requests) == 2:
                    break
                writer.write(answer(GOOD).replace(b"connection: close\r\n", b""))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        environ["UPSTREAM_BASE_URLS"] = f"openai=http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        worker: Running = await make_worker()
        alice.keys("sk-first-0123456789abcdefghij")
        token = alice.token()
        told = [await worker.client.chat(token) for _ in range(2)]
        events = await alice.writer.usage_of(2)

    assert [one.status for one in told] == [200, 200]
    assert [one.headers["gateway-attempts"] for one in told] == ["1", "1"]
    assert len(requests) == 3
    assert [event.attempt for event in events] == [1, 1]


LONG_BODIES = pytest.mark.parametrize(
    "body", [[bytes(16 * 1024 * 1024)], [b"{", memoryview(bytes(16 * 1024 * 1024)), b"}"]], ids=["whole", "in pieces"]
)


@LONG_BODIES
async def test_a_connection_answered_before_it_had_the_whole_request_serves_no_other(
    sessions: Upstream, body: list[bytes]
):
    connections = 0

    async def refuse(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections = number
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(0.5)

    async with taking(refuse) as way:
        for _ in range(2):
            assert (await sessions.send(way, {}, body)).status == 413

    assert connections == 2


@LONG_BODIES
async def test_a_request_cut_short_closes_its_connection_though_the_upstream_reads_nothing(
    sessions: Upstream, body: list[bytes]
):
    closed = asyncio.Event()

    async def stall(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(200):
                writer.write(b"x: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
            return
        closed.set()

    async with taking(stall) as way:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sessions.send(way, {}, body), 0.2)
        await asyncio.wait_for(closed.wait(), 1)


@pytest.mark.parametrize("value", [b"a\r\nhost: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_no_header_can_end_its_line(sessions: Upstream, upstream: StandIn, value: bytes):
    with pytest.raises(ValueError, match="line's end"):
        await sessions.send(Way(AddressPolicy(loopback=True), URL(upstream.url)), {b"x": value}, [b"{}"])

    assert not upstream.calls


@pytest.mark.parametrize(
    ("own", "added", "sent"),
    [
        ("", b"a=1", b"?a=1"),
        ("?v=1", b"a=1&b", b"?v=1&a=1&b"),
        ("?v=1", b"v=2", b"?v=1"),
        ("?v=1", b"%56=2&a=1", b"?v=1&a=1"),
        ("?v=1", b"", b"?v=1"),
    ],
)
def test_a_callers_query_stands_beside_the_providers_own_and_never_in_its_place(own: str, added: bytes, sent: bytes):
    way = Way(STRICT, URL(f"https://upstream.example/v1/chat{own}", encoded=True))
    assert way.target(added) == b"/v1/chat" + sent


def certificate(name: str) -> tuple[bytes, bytes]:
    """A certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem), secret


@pytest.mark.parametrize(
    ("host", "is_trusted", "is_reached"),
    [("localhost", True, True), ("localhost", False, False), ("127.0.0.1", True, False)],
)
async def test_over_tls_only_the_named_host_with_a_trusted_certificate_gets_a_request(
    sessions: Upstream, tmp_path: Path, host: str, is_trusted: bool, is_reached: bool
):
    public, secret = certificate("localhost")
    (tmp_path / "pem").write_bytes(public + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    if is_trusted:
        # One of this test's own, made as every other one is.
        sessions._context = trusted_by_this_machine.__wrapped__()
        sessions._context.load_verify_locations(cadata=public.decode())
    asked = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        way = Way(AddressPolicy(loopback=True), URL(f"https://{host}:{port}/v1/chat"))
        if is_reached:
            assert (await sessions.send(way, {}, [b""])).status == 200
        else:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await sessions.send(way, {}, [b""])

    assert len(asked) == is_reached
