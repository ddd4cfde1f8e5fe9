"""The one way out: every connection to an upstream is made here, to an address that was looked at.

The name's addresses are judged when they are resolved, and the address once more when its socket is made: that is what
the packets go to, and a literal address never meets the resolver. Redirects are not followed, cookies not kept, bodies
not decompressed, the environment's proxies not asked.

Of aiohttp this takes what is hard: the connector with its pool, its resolver and TLS, and the parser of answers. A
request is one write of bytes that are mostly the same each time, so it is made here and not by aiohttp's session.

Source: contract, section 5; docs/decisions/0011-outgoing-addresses.md, docs/decisions/0055-lean-http.md.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from data_plane.forwarding.names import Names, look_up_for
from data_plane.settings import UpstreamLimits
from gateway_core.addresses import AddressPolicy

_KEEPALIVE_SECONDS: Final = 15.0
_READ_BUFFER: Final = 64 * 1024
_LONGEST_LINE: Final = 32 * 1024
_CLOSE_SECONDS: Final = 0.05
# A body up to this is copied behind its head, so that both go out in one packet.
_JOINED_BYTES: Final = 64 * 1024
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
_EVENT_STREAM: Final = "text/event-stream"
_SWITCHING: Final = 101
_FINAL: Final = 200
# What has no body, whatever its head says and whatever comes behind it.
_BODILESS: Final = frozenset({_SWITCHING, 204, 304})


class AddressDenied(OSError):
    """The upstream's name leads to an address that this gateway does not connect to."""


class AnswerMalformed(aiohttp.ClientError):
    """What came from the upstream is no HTTP."""


class Way:
    """A URL that requests are posted to, with what they all have in common."""

    __slots__ = ("_host", "_own", "_target", "account", "connector", "policy", "request", "url")

    def __init__(self, policy: AddressPolicy, url: URL, account: str = "") -> None:
        """
        Args:
            policy: where its connections may end.
            url: absolute, encoded.
            account: whose look-ups of the URL's name count together; empty for a built-in provider.
        """
        self.account = account
        self.policy = policy
        self.url = url
        # What aiohttp connects by, once `open` was called; the request is never sent.
        self.connector: aiohttp.BaseConnector | None = None
        self.request: aiohttp.ClientRequest | None = None
        self._host = b""
        self._target = url.raw_path_qs.encode("ascii")
        # The names in the URL's own query, in the form in which they are compared.
        self._own = frozenset(map(_parameter, url.raw_query_string.encode("ascii").split(b"&"))) - {b""}

    def open(self, session: aiohttp.ClientSession) -> aiohttp.ClientRequest:
        """Make what all requests share."""
        self.connector = session.connector
        loop = asyncio.get_running_loop()
        self.request = request = aiohttp.ClientRequest("POST", self.url, loop=loop, session=session, headers={})
        self._host = f" HTTP/1.1\r\nhost: {request.headers['Host']}\r\n".encode("ascii")
        return request

    def head(self, headers: Mapping[bytes, bytes], length: int, query: bytes) -> bytes:
        """A request's head.

        Raises:
            ValueError: a line would end within a header.
        """
        lines = [b"%b: %b\r\n" % header for header in headers.items()]
        target = self.target(query) if query else self._target
        head = b"POST %b%b%bcontent-length: %d\r\n\r\n" % (target, self._host, b"".join(lines), length)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 4 or b"\0" in head:
            raise ValueError("a header with a line's end in it")
        return head

    def target(self, query: bytes) -> bytes:
        """The request's target: path and query. The URL's own query has the last word on what it names."""
        added = b"&".join(part for part in query.split(b"&") if part and _parameter(part) not in self._own)
        return self._target + (b"&" if self._own else b"?") + added if added else self._target


def _parameter(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).lower()


class Content(Protocol):
    """The body of an answer while it is read."""

    async def readany(self) -> bytes:
        """The next piece, empty at the end."""

    def at_eof(self) -> bool:
        """Whether nothing more comes."""


class Answer:
    """An upstream's answer: its head, and its body as it comes. Whoever has it ends it with `release` or `close`."""

    __slots__ = ("_connection", "content", "content_length", "headers", "is_chunked", "raw_headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader) -> None:
        self._connection: Connection | None = connection
        self.status = message.code
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.is_chunked = message.chunked
        length = message.headers.get("content-length")
        self.content_length = int(length) if length is not None else None
        self.content: Content = content
        content.on_eof(self.release)

    @property
    def is_event_stream(self) -> bool:
        """Whether its body is server-sent events."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == _EVENT_STREAM

    def release(self) -> None:
        """Give the connection back, once the body has come to its end."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.status in _BODILESS or _is_sending(connection):
            # A body may still come behind its head, or it answered before it had the whole request: what it does with
            # the rest is not to meet the next one.
            _cut(connection)
        else:
            connection.release()

    def close(self) -> None:
        """Cut the connection, if it is not given back, so that the upstream stops."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _cut(connection)


def _is_sending(connection: Connection) -> bool:
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


def _cut(connection: Connection) -> None:
    transport = connection.transport
    if transport is not None and _is_sending(connection):
        # Closing in good order would wait until an upstream has read what it may never read.
        transport.abort()
    connection.close()


@cache
def trusted_by_this_machine() -> ssl.SSLContext:
    """TLS with the certificates that this machine trusts. Reading them takes 20 ms, so a process reads them once."""
    return ssl.create_default_context()


class Upstream:
    """The sessions that requests go out on: one for each policy, so that no connection is shared across."""

    def __init__(self, limits: UpstreamLimits | None = None) -> None:
        self._limits = limits or UpstreamLimits()
        self._names = Names(self._limits)
        self._context = trusted_by_this_machine()
        # A handful: policies differ in a few yes-or-no answers about an upstream's URL.
        self._sessions: dict[AddressPolicy, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        await self._names.close()
        # aiohttp closes TLS transports in the loop's next rounds.
        await asyncio.sleep(_CLOSE_SECONDS)

    async def send(self, way: Way, headers: Mapping[bytes, bytes], body: bytes, query: bytes = b"") -> Answer:
        """Send a request and wait for the head of its answer.

        Args:
            way: where to.
            headers: all but `host` and `content-length`.
            body: whole.
            query: what is added to the URL's own; printable ASCII.

        Raises:
            aiohttp.ClientError, OSError: no answer came.
            ValueError: a header that is none.
        """
        request = way.request or way.open(self._session(way.policy))
        head = way.head(headers, len(body), query)
        look_up_for(way.account)
        connection = await _connected(cast("aiohttp.BaseConnector", way.connector), request)
        try:
            return await _answer(connection, head, body, self._limits.interim_answers)
        except BaseException:
            _cut(connection)
            raise

    def _session(self, policy: AddressPolicy) -> aiohttp.ClientSession:
        session = self._sessions.get(policy)
        if session is None:
            session = self._sessions[policy] = session_of(policy, self._context, self._names)
        return session

    @property
    def open_connections(self) -> int:
        """How many connections are in use, for tests and metrics."""
        return sum(
            len(cast("Any", session.connector)._acquired)  # noqa: SLF001 -- aiohttp tells it nowhere else
            for session in self._sessions.values()
        )


async def _connected(connector: aiohttp.BaseConnector, request: aiohttp.ClientRequest) -> Connection:
    while True:
        connection = await connector.connect(request, traces=[], timeout=_NO_TIMEOUT)
        if connection.protocol is not None and not connection.protocol.should_close:
            return connection
        # While it was idle something came that nobody had asked for: it would be taken for the answer.
        connection.close()


async def _answer(connection: Connection, head: bytes, body: bytes, most_interim: int) -> Answer:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
    )
    if len(body) <= _JOINED_BYTES:
        transport.write(head + body)
    else:
        transport.writelines((head, body))
    try:
        message, content = await protocol.read()
        interim = 0
        while message.code < _FINAL and message.code != _SWITCHING:
            interim += 1
            if interim > most_interim or message.chunked or "content-length" in message.headers:
                # What is the body of an answer on the way there would be taken for the answer.
                raise AnswerMalformed
            message, content = await protocol.read()
    except HttpProcessingError:
        raise AnswerMalformed from None
    return Answer(connection, message, content)


def session_of(policy: AddressPolicy, context: ssl.SSLContext, names: Names) -> aiohttp.ClientSession:
    """A session that connects where the policy allows, and nowhere else."""

    def make_socket(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if refusal := policy.refusal(address[0], address[1]):
            raise AddressDenied(refusal)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            # With aiohttp's cache, one account would wait for another's look-up. `Names` has a cache of its own.
            use_dns_cache=False,
            resolver=_CheckingResolver(policy, names),
            socket_factory=make_socket,
            ssl=context,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_READ_BUFFER,
        max_field_size=_LONGEST_LINE,
        max_line_size=_LONGEST_LINE,
        # The attempt machine keeps the time.
        timeout=_NO_TIMEOUT,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )


class _CheckingResolver(AbstractResolver):
    """The worker's look-ups, less the addresses that are denied."""

    def __init__(self, policy: AddressPolicy, names: Names) -> None:
        self._policy = policy
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.find(host, port, family)
        refusals = {result["host"]: self._policy.refusal(result["host"], port) for result in found}
        allowed = [result for result in found if refusals[result["host"]] is None]
        if not allowed:
            raise AddressDenied(next(iter(filter(None, refusals.values())), "no address"))
        return allowed

    async def close(self) -> None:
        """Nothing: the look-ups are shared."""
