"""Holds: data_plane.forwarding.names

A name server that does not answer costs the account that asks for its names.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from local.stand_in import StandIn
from tests.hostile.data_plane.test_upstreams import client_of
from tests.patience import eventually
from tests.workers import Tenant, WorkerProcess

Start = Callable[..., WorkerProcess]
_A = 1


class NameServer(asyncio.DatagramProtocol):
    """Answers 127.0.0.1 for every name, but for those that begin with `dead`: those it never answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        """Ready."""
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: Any) -> None:
        """One question."""
        at, labels = 12, []
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        kind = struct.unpack("!H", data[at + 1 : at + 3])[0]
        self.asked.append(".".join(labels))
        if labels[0].startswith("dead"):
            return
        found = b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 0, 4) + bytes((127, 0, 0, 1)) if kind == _A else b""
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(found), 0, 0)
        self.transport.sendto(head + data[12 : at + 5] + found, address)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["NameServer"]:
        """One on a free port."""
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        try:
            yield server
        finally:
            transport.close()


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """A name server of the test's own."""
    async with NameServer.running() as server:
        yield server


def provide(tenant: Tenant, slug: str, host: str, upstream: StandIn) -> None:
    """A custom provider at a name."""
    tenant.provider(slug, f"http://{host}:{upstream.url.rpartition(':')[2].partition('/')[0]}/v1")


async def test_one_accounts_dead_names_do_not_hold_up_another_account(
    start: Start, alice: Tenant, charlie: Tenant, upstream: StandIn, names: NameServer
):
    dead = [f"dead{number}.example" for number in range(12)]
    hosts = ",".join([*dead, "good.example"])
    process = start(
        DNS_SERVERS=f"127.0.0.1:{names.port}",
        DNS_TIMEOUT=2,
        DNS_LOOKUPS_PER_ACCOUNT=2,
        UPSTREAM_ALLOWED_HOSTS=hosts,
    )
    for number, host in enumerate(dead):
        provide(alice, f"d{number}", host, upstream)
    provide(charlie, "mine", "good.example", upstream)
    provide(alice, "same", "good.example", upstream)
    alices, charlies = alice.token(), charlie.token()
    async with client_of(process) as client:
        waiting = [asyncio.create_task(client.chat(alices, f"d{number}:x")) for number in range(12)]
        await eventually(lambda: any(name in names.asked for name in dead), what="a dead name is asked for")
        waiting.append(asyncio.create_task(client.chat(alices, "same:x")))

        # Its host is one that the other account asks for too, behind its dead ones.
        assert (await client.chat(charlies, "mine:x")).status == 200
        asked = set(names.asked) & set(dead)

        assert not any(task.done() for task in waiting[:12])
        # The others of the account wait for their turn.
        assert len(asked) <= 2
        answers = await asyncio.gather(*waiting)
        assert [answer.status for answer in answers[:12]] == [502] * 12


async def test_a_failed_look_up_is_remembered(start: Start, alice: Tenant, upstream: StandIn, names: NameServer):
    process = start(
        DNS_SERVERS=f"127.0.0.1:{names.port}",
        DNS_TIMEOUT=1,
        DNS_FAILURES_KEPT=1000,
        UPSTREAM_ALLOWED_HOSTS="dead.example",
    )
    provide(alice, "mine", "dead.example", upstream)
    token = alice.token()
    async with client_of(process) as client:
        first = await client.chat(token, "mine:x")
        asked = len(names.asked)
        second = await client.chat(token, "mine:x")

    assert (first.status, second.status) == (502, 502)
    assert asked
    assert len(names.asked) == asked
