"""How many callers may be connected, how long each may take, and when a connection ends that takes longer.

A connection keeps the time at which its patience ends. One timer looks at all of them: a timer for each request would
cost each request.

Source: docs/decisions/0056-bounds-on-connections.md.
"""

import asyncio
import ipaddress
import resource
from typing import Final, Protocol

import structlog

from data_plane import errors
from data_plane.metrics import Metrics
from data_plane.settings import CallerLimits
from gateway_core import addresses

log = structlog.get_logger("data_plane.http.connections")

_SWEEP_SECONDS: Final = 0.5
# Descriptors for Redis, files, the listening socket and what libraries open.
_RESERVED: Final = 128
# A caller's connection may need one to an upstream.
_DESCRIPTORS_A_CALLER: Final = 2
_MOST_DESCRIPTORS: Final = 65_536
# Connections over the bound that are answered at one time; more are cut without a word.
_MOST_REFUSED: Final = 64
_NETWORK_BITS: Final = 64


class Bounded(Protocol):
    """A connection as the gate sees it."""

    # When its patience ends, by the loop's clock; infinite while a request is in work.
    deadline: float

    def look(self, now: float) -> None:
        """Act where the patience has ended."""


class Gate:
    """Counts the connections of one worker process, and looks at their deadlines."""

    def __init__(self, limits: CallerLimits, metrics: Metrics) -> None:
        """
        Args:
            limits: as they are set. The descriptors of the process may allow fewer connections.
            metrics: where refusals are counted.
        """
        self.limits = limits
        self.most = min(limits.connections, _most_callers())
        if self.most < limits.connections:
            log.warning("file descriptors allow fewer connections", connections=self.most, wanted=limits.connections)
        self._metrics = metrics
        self._open: set[Bounded] = set()
        self._refused: set[Bounded] = set()
        self._by_address: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Bounded, address: str) -> None:
        """Count a connection in.

        Args:
            connection: from now on `look` is called.
            address: as `network_of` gives it; empty for a local socket.

        Raises:
            TooManyConnections, TooManyConnectionsOfAddress: it is to be refused. `leave` is called all the same.
            ConnectionRefusedError: it is to be cut without a word.
        """
        most_of_one = self.limits.connections_per_address
        if len(self._open) >= self.most:
            refusal: errors.Unavailable = errors.TooManyConnections(
                f"This worker takes {self.most} connections at one time (CONNECTIONS); try again."
            )
            self.count("connections")
        elif most_of_one and address and self._by_address.get(address, 0) >= most_of_one:
            refusal = errors.TooManyConnectionsOfAddress(
                f"One address may have {most_of_one} connections at one time (CONNECTIONS_PER_ADDRESS)."
            )
            self.count("connections_per_address")
        else:
            self._open.add(connection)
            self._by_address[address] = self._by_address.get(address, 0) + 1
            self._metrics.connections.set(len(self._open))
            self._watch()
            return
        if len(self._refused) >= _MOST_REFUSED:
            raise ConnectionRefusedError
        self._refused.add(connection)
        self._watch()
        raise refusal

    def leave(self, connection: Bounded, address: str) -> None:
        """Count a connection out."""
        self._refused.discard(connection)
        if connection not in self._open:
            return
        self._open.remove(connection)
        self._metrics.connections.set(len(self._open))
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def count(self, reason: str) -> None:
        """Count a refusal by the bound that was reached."""
        self._metrics.connections_refused[reason].inc()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in (*self._open, *self._refused):
            connection.look(now)
        if self._open or self._refused:
            self._watch()


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address, which one host may have."""
    try:
        address = addresses.parse(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS)))


def raise_descriptors() -> None:
    """Let this process open as many files as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _most_callers() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(1, (descriptors - _RESERVED) // _DESCRIPTORS_A_CALLER)
