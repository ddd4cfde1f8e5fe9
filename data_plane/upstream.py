"""The one way out: every connection to an upstream is made here, to an address that was looked at.

The name's addresses are judged when they are resolved, and the address once more when its socket is made: that is what
the packets go to, and a literal address never meets the resolver. Redirects are not followed, cookies not kept, bodies
not decompressed, the environment's proxies not asked.

Source: contract, section 5; docs/decisions/0011-outgoing-addresses.md.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway_core.addresses import AddressPolicy

_KEEPALIVE_SECONDS: Final = 15.0
_DNS_SECONDS: Final = 10
_READ_BUFFER: Final = 64 * 1024
_CLOSE_SECONDS: Final = 0.05
# Above this, aiohttp wants a body that it can write in pieces.
_WHOLE_BODY: Final = 1024 * 1024


class AddressDenied(OSError):
    """The upstream's name leads to an address that this gateway does not connect to."""


class Upstream:
    """The sessions that requests go out on: one for each policy, so that no connection is shared across."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context()
        # A handful: policies differ in a few yes-or-no answers about an upstream's URL.
        self._sessions: dict[AddressPolicy, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        # aiohttp closes TLS transports in the loop's next rounds.
        await asyncio.sleep(_CLOSE_SECONDS)

    async def send(
        self, policy: AddressPolicy, url: URL, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of its answer. The caller closes the answer.

        Raises:
            aiohttp.ClientError, OSError: no answer came.
        """
        session = self._sessions.get(policy)
        if session is None:
            session = self._sessions[policy] = session_of(policy, self._context)
        data = body if len(body) < _WHOLE_BODY else io.BytesIO(body)
        return await session.request("POST", url, headers=headers, data=data, allow_redirects=False)

    @property
    def open_connections(self) -> int:
        """How many connections are in use, for tests and metrics."""
        return sum(
            len(cast("Any", session.connector)._acquired)  # noqa: SLF001 -- aiohttp tells it nowhere else
            for session in self._sessions.values()
        )


def session_of(policy: AddressPolicy, context: ssl.SSLContext) -> aiohttp.ClientSession:
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
            ttl_dns_cache=_DNS_SECONDS,
            resolver=_CheckingResolver(policy),
            socket_factory=make_socket,
            ssl=context,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_READ_BUFFER,
        max_field_size=32 * 1024,
        max_line_size=32 * 1024,
        # The attempt machine keeps the time.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )


class _CheckingResolver(AbstractResolver):
    """The system's resolver, less the addresses that are denied."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._resolver: aiohttp.ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if self._resolver is None:
            self._resolver = aiohttp.ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        refusals = {result["host"]: self._policy.refusal(result["host"], port) for result in found}
        allowed = [result for result in found if refusals[result["host"]] is None]
        if not allowed:
            raise AddressDenied(next(iter(filter(None, refusals.values())), "no address"))
        return allowed

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()
