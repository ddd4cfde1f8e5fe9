"""The one way out: every connection to an upstream is made here, to an address that was looked at.

The name's addresses are judged when they are resolved, and the address once more when its socket is made: that is what
the packets go to, and a literal address never meets the resolver. Redirects are not followed, cookies not kept, bodies
not decompressed, the environment's proxies not asked.

Of aiohttp this takes what is hard: the connector with its pool, its resolver and TLS. A request is one write of bytes
that are mostly the same each time, so it is made here and not by aiohttp's session; its answer is read by
`data_plane.forwarding.answers`.

Source: contract, section 5; docs/decisions/0011-outgoing-addresses.md, docs/decisions/0055-lean-http.md.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from data_plane.forwarding.answers import Answer, AnswerProtocol, cut, protocol_of
from data_plane.forwarding.names import Names, look_up_for
from data_plane.settings import UpstreamLimits
from gateway_core.addresses import AddressPolicy

# Servers on Node.js and uvicorn close what was idle for 5 s.
_KEEPALIVE_SECONDS: Final = 4.0
_READ_BUFFER: Final = 64 * 1024
_LONGEST_LINE: Final = 32 * 1024
# A body up to this is copied behind its head, so that both go out in one packet.
_JOINED_BYTES: Final = 64 * 1024
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)


class AddressDenied(OSError):
    """The upstream's name leads to an address that this gateway does not connect to."""


class Way:
    """A URL that requests go to, with what they all have in common."""

    __slots__ = ("_host", "_own", "_target", "account", "connector", "method", "policy", "request", "url")

    def __init__(self, policy: AddressPolicy, url: URL, account: str = "", method: bytes = b"POST") -> None:
        """
        Args:
            policy: where its connections may end.
            url: absolute, encoded.
            account: whose look-ups of the URL's name count together; empty for a built-in provider.
            method: of every request.
        """
        self.account = account
        self.method = method
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
        self.request = request = _Destination("POST", self.url, loop=loop, session=session, headers={})
        self._host = f" HTTP/1.1\r\nhost: {request.headers['Host']}\r\n".encode("ascii")
        return request

    def head(self, headers: Mapping[bytes, bytes], length: int, query: bytes) -> bytes:
        """A request's head.

        Raises:
            ValueError: a line would end within a header.
        """
        lines = [b"%b: %b\r\n" % header for header in headers.items()]
        target = self.target(query) if query else self._target
        line = self.method + b" " + target
        head = b"%b%b%bcontent-length: %d\r\n\r\n" % (line, self._host, b"".join(lines), length)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 4 or b"\0" in head:
            raise ValueError("a header with a line's end in it")
        return head

    def target(self, query: bytes) -> bytes:
        """The request's target: path and query. The URL's own query has the last word on what it names."""
        added = b"&".join(part for part in query.split(b"&") if part and _parameter(part) not in self._own)
        return self._target + (b"&" if self._own else b"?") + added if added else self._target


class _Destination(aiohttp.ClientRequest):
    """Says where to connect; aiohttp asks it for each request."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


def _parameter(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).lower()


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

    async def send(
        self, way: Way, headers: Mapping[bytes, bytes], body: Sequence[bytes | memoryview], query: bytes = b""
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        A kept connection may be closed by the upstream while the request is on its way. Where not a byte came, the
        request is sent once more, on a new connection.

        Args:
            way: where to.
            headers: all but `host` and `content-length`.
            body: whole, in pieces.
            query: what is added to the URL's own; printable ASCII.

        Raises:
            aiohttp.ClientError, OSError: no answer came.
            ValueError: a header that is none.
        """
        request = way.request or way.open(self._session(way.policy))
        head = way.head(headers, sum(map(len, body)), query)
        look_up_for(way.account)
        connector = cast("aiohttp.BaseConnector", way.connector)
        is_new = False
        while True:
            connection = await _connected(connector, request, is_new=is_new)
            protocol = protocol_of(connection)
            try:
                return await _answer(connection, head, body)
            except BaseException as fault:
                cut(connection)
                has_expired = protocol is not None and protocol.has_expired
                if is_new or not has_expired or not isinstance(fault, aiohttp.ClientError | OSError):
                    raise
            is_new = True

    def _session(self, policy: AddressPolicy) -> aiohttp.ClientSession:
        session = self._sessions.get(policy)
        if session is None:
            session = self._sessions[policy] = session_of(policy, self._context, self._names)
            connector: Any = session.connector
            # aiohttp has no parameter for the class of protocols.
            connector._factory = partial(  # noqa: SLF001
                AnswerProtocol, asyncio.get_running_loop(), self._limits.interim_answers
            )
        return session

    @property
    def open_connections(self) -> int:
        """How many connections are in use, for tests and metrics."""
        return sum(
            len(cast("Any", session.connector)._acquired)  # noqa: SLF001 -- aiohttp tells it nowhere else
            for session in self._sessions.values()
        )


async def _connected(
    connector: aiohttp.BaseConnector, request: aiohttp.ClientRequest, *, is_new: bool = False
) -> Connection:
    """A connection that can serve a request.

    Args:
        connector: has the connections that were kept.
        request: says where to.
        is_new: whether it must not be one of those. They are closed: the upstream is about to close them too.
    """
    while True:
        connection = await connector.connect(request, traces=[], timeout=_NO_TIMEOUT)
        protocol = protocol_of(connection)
        if protocol is not None and not protocol.should_close and not (is_new and protocol.was_used):
            return connection
        # It is not to be used, or while it was idle something came that would be taken for the answer.
        connection.close()


async def _answer(connection: Connection, head: bytes, body: Sequence[bytes | memoryview]) -> Answer:
    protocol = protocol_of(connection)
    if protocol is None or protocol.transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.ask()
    if len(body) > 1:
        protocol.send_long((head, *body))
    elif len(body[0]) <= _JOINED_BYTES:
        protocol.transport.write(head + body[0])
    else:
        protocol.transport.writelines((head, body[0]))
    while not protocol.has_answered:
        await protocol.news()
    return Answer(connection, protocol)


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
        """Do nothing: other sessions share the look-ups."""
