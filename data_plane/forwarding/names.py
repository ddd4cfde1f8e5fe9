"""Names of upstreams to addresses: looked up without a thread, within a time limit, a few at a time for one account.

A name server that does not answer costs those who ask for its names, and nobody else: each look-up has its own time
limit, a failure is remembered for a moment, and the look-ups of one account wait for each other.

Source: docs/decisions/0056-bounds-on-connections.md.
"""

import asyncio
import contextlib
import socket
import weakref
from collections import deque
from contextvars import ContextVar
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import ResolveResult

from data_plane.settings import UpstreamLimits

_MOST_NAMES: Final = 4096
_TRIES: Final = 2

# The account that the current task connects for; empty for providers that belong to no account.
_account: ContextVar[str] = ContextVar("account", default="")


class LookUpFailed(OSError):
    """The upstream's name leads to no address."""


class _Found(NamedTuple):
    until: float
    # Turned at each use, so that connections spread over them. Empty: the look-up failed.
    addresses: deque[ResolveResult]
    fault: str


def look_up_for(account: str) -> None:
    """Count all further look-ups of this task for this account."""
    _account.set(account)


class Names:
    """The look-ups of one worker process, and what they found."""

    def __init__(self, limits: UpstreamLimits) -> None:
        self._limits = limits
        self._resolver: aiohttp.AsyncResolver | None = None
        self._found: dict[tuple[str, int], _Found] = {}
        self._running: dict[tuple[str, int], asyncio.Task[_Found]] = {}
        self._shares: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    async def find(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        """The addresses of a name.

        Args:
            host: in ASCII.
            port: put into each result.
            family: AF_UNSPEC for IPv4 and IPv6.

        Raises:
            LookUpFailed: the name has no address, or no name server answered in time.
        """
        key = (host, family)
        found = self._fresh(key)
        if found is None:
            account = _account.get()
            try:
                async with asyncio.timeout(self._limits.dns_timeout), self._share(account):
                    found = self._fresh(key) or await self._join(key)
            except TimeoutError:
                raise LookUpFailed("the look-up of the name took too long") from None
        if not found.addresses:
            raise LookUpFailed(found.fault)
        found.addresses.rotate(-1)
        return [ResolveResult(**(one | {"port": port})) for one in found.addresses]

    async def close(self) -> None:
        """End the look-ups that run."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    def _fresh(self, key: tuple[str, int]) -> _Found | None:
        found = self._found.get(key)
        return found if found is not None and found.until > asyncio.get_running_loop().time() else None

    def _share(self, account: str) -> contextlib.AbstractAsyncContextManager[object]:
        if not account:
            return contextlib.nullcontext()
        share = self._shares.get(account)
        if share is None:
            share = self._shares[account] = asyncio.Semaphore(self._limits.dns_lookups_per_account)
        return share

    async def _join(self, key: tuple[str, int]) -> _Found:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._look_up(key))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Others wait for it too.
        return await asyncio.shield(task)

    async def _look_up(self, key: tuple[str, int]) -> _Found:
        host, family = key
        limits = self._limits
        addresses: deque[ResolveResult] = deque()
        fault, kept = "", limits.dns_failures_kept
        try:
            async with asyncio.timeout(limits.dns_timeout):
                addresses.extend(await self._opened().resolve(host, 0, socket.AddressFamily(family)))
            kept = limits.dns_kept
        except TimeoutError:
            fault = "the look-up of the name took too long"
        except OSError as error:
            fault = str(error.strerror or error)
        found = _Found(asyncio.get_running_loop().time() + kept, addresses, fault)
        self._found.pop(key, None)
        while len(self._found) >= _MOST_NAMES:
            del self._found[next(iter(self._found))]
        self._found[key] = found
        return found

    def _opened(self) -> aiohttp.AsyncResolver:
        if self._resolver is None:
            limits = self._limits
            self._resolver = aiohttp.AsyncResolver(
                nameservers=list(limits.dns_servers) or None, timeout=limits.dns_timeout / _TRIES, tries=_TRIES
            )
        return self._resolver
