"""Holds: data_plane.state.loading

Many workers that start, or lose their Redis, in one moment do not load from it in one moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from gateway_core import tokens
from tests.patience import eventually
from tests.workers import Running, SnapshotWriter, Tenant, running, settings_of

MakeWorker = Callable[..., Awaitable[Running]]
SPREAD = 1.5
# What evenly spread moments would give is 0.8; a machine that stalls gives less, moments without jitter nearly nothing.
AT_LEAST = 0.25


def width(moments: list[float]) -> float:
    """The time in which the middle eight tenths of them lie."""
    ordered = sorted(moments)
    return ordered[len(ordered) * 9 // 10] - ordered[len(ordered) // 10]


async def test_workers_that_start_at_once_make_their_first_contact_at_moments_of_their_own(
    environ: dict[str, str], writer: SnapshotWriter
):
    clock = asyncio.get_running_loop().time
    settings = settings_of(environ, loading_spread=SPREAD)

    async def contact(stack: AsyncExitStack) -> float:
        worker = await stack.enter_async_context(running(settings))
        assert worker.worker.follower.is_in_sync
        return clock()

    async with AsyncExitStack() as stack:
        moments = await asyncio.gather(*(contact(stack) for _ in range(12)))

    assert width(moments) >= SPREAD * AT_LEAST


async def test_workers_that_begin_anew_at_once_read_what_they_hold_at_moments_of_their_own(
    make_worker: MakeWorker, writer: SnapshotWriter
):
    clock = asyncio.get_running_loop().time
    shown = [writer.tenant().token() for _ in range(15)]
    workers = [await make_worker(loading_spread=SPREAD) for _ in range(3)]
    for worker in workers:
        for token in shown:
            assert await worker.worker.follower.find(tokens.digest(token)) is not None
    stale = [account for worker in workers for account in worker.store.accounts.values()]

    writer.begin_epoch()
    await eventually(lambda: all(worker.store.epoch == writer.epoch for worker in workers))
    moments: list[float] = []
    while stale:
        left = [account for account in stale if account.is_stale]
        moments += [clock()] * (len(stale) - len(left))
        stale = left
        await asyncio.sleep(0.01)

    assert len(moments) == 45
    assert width(moments) >= SPREAD * AT_LEAST


async def test_what_a_request_asks_for_does_not_wait_for_its_moment(
    make_worker: MakeWorker, writer: SnapshotWriter, alice: Tenant
):
    worker = await make_worker(loading_spread=0.0)
    shown, other = alice.token(), alice.token()
    await worker.client.status(shown)
    worker.worker.follower.loader.spread = 3600
    writer.begin_epoch()
    await eventually(lambda: worker.store.epoch == writer.epoch)
    assert worker.store.accounts[alice.id].is_stale

    await worker.client.status(other)

    assert not worker.store.accounts[alice.id].is_stale
