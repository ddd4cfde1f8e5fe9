"""A soak: writes, callers and faults at once for a while, against real processes. `make soak`, `DURATION=600`.

python -m benchmarks.soak [--seconds 600] [--workers 3] [--seed 1] [--keep]

Starts PostgreSQL, Redis, the control plane, the relay, Celery, some workers and a stand-in upstream. Writers create,
delete, disable and enable access keys, rotate provider keys and edit configurations. Callers ask for answers and
streams, and cut some of them off. Meanwhile processes are killed, Redis is killed or paused, and PostgreSQL is
restarted. The command ends with status 1 where one of these promises was broken:

- no valid access key was refused with 401;
- no access key was served after the answer to its deletion reported that every worker has applied it;
- every answer that was read to its end is in the usage, except for the events that workers report as dropped;
- no attempt is in the usage twice;
- the memory of the worker that was never killed has not grown since it was warm;
- in the end Redis holds the same documents as PostgreSQL, and each worker obeys them.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.soak.callers import Caller
from benchmarks.soak.checks import compared, doubled, missing, open_accounts
from benchmarks.soak.deployment import Deployment, Process
from benchmarks.soak.faults import Faults
from benchmarks.soak.state import SoakState
from benchmarks.soak.writers import Writer
from local.embedded import PostgresServer, RedisServer

ACCOUNTS: Final = 6
CALLERS: Final = 8
WRITERS: Final = 3
SETTLE_SECONDS: Final = 90.0
# A worker counts as warm after this share of the soak. Its memory may then grow by this factor and these bytes.
WARM: Final = 0.3
GROWTH: Final = 1.15
SLACK_BYTES: Final = 8 * 2**20


class Soak:
    """One soak: starts the deployment, lets all parts run, and checks the promises in the end."""

    def __init__(self, state: SoakState, deployment: Deployment, *, seconds: float) -> None:
        self.state = state
        self.deployment = deployment
        self.seconds = seconds
        self.caller = Caller(state, deployment)
        self.writer = Writer(state, deployment, self.caller)
        self.faults = Faults(state, deployment)
        # The resident memory of the first worker once it was warm; 0 before that.
        self.warm_bytes = 0

    async def run(self) -> None:
        """Start everything, soak for the given seconds, let it settle, and report."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            self.state.session = session
            for process in self.deployment.processes:
                process.start()
            await self._until(self._is_ready, within=120, what="everything to start")
            for tenant in self.state.tenants:
                await self.writer.furnish(tenant)
            began = time.monotonic()
            tasks = [
                *(asyncio.create_task(self.caller.run()) for _ in range(CALLERS)),
                *(asyncio.create_task(self.writer.run()) for _ in range(WRITERS)),
                asyncio.create_task(self.faults.run()),
            ]
            while (passed := time.monotonic() - began) < self.seconds:
                if not self.warm_bytes and passed > WARM * self.seconds:
                    self.warm_bytes = self.deployment.workers[0].rss
                await asyncio.sleep(min(5, max(0.1, self.seconds - passed)))
            self.state.is_over = True
            await asyncio.gather(*tasks)
            await self._settle()

    async def _until(self, holds: Callable[[], Awaitable[bool]], *, within: float, what: str) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                if await holds():
                    return True
            await asyncio.sleep(0.2)
        self.state.tally.broken.append(f"not within {within:.0f} s: {what}")
        return False

    async def _is_ready(self) -> bool:
        for process in (self.deployment.control_plane, *self.deployment.workers):
            async with self.state.session.get(f"{self.deployment.url(process)}/readyz") as answer:
                if answer.status != 200:
                    return False
        return True

    async def _settle(self) -> None:
        await self._until(self._is_ready, within=SETTLE_SECONDS, what="everything to be ready again")
        await self._until(self._is_obeyed, within=SETTLE_SECONDS, what="each worker to obey what was written last")
        grown = self.deployment.workers[0].rss
        if self.warm_bytes and grown > self.warm_bytes * GROWTH + SLACK_BYTES:
            self.state.tally.broken.append(
                f"{self.deployment.workers[0].name} grew from {self.warm_bytes >> 20} to {grown >> 20} MiB"
            )
        dropped = sum([await self._dropped(worker) for worker in self.deployment.workers])
        within = SETTLE_SECONDS if self.seconds >= 60 else 30
        deadline = time.monotonic() + within
        while (lost := await asyncio.to_thread(missing, self.state.tally.answered)) > dropped:
            if time.monotonic() > deadline:
                self.state.tally.broken.append(
                    f"{lost} answers are in no usage; workers say that they dropped {dropped}"
                )
                break
            await asyncio.sleep(1)
        if twice := await asyncio.to_thread(doubled):
            self.state.tally.broken.append(f"{twice} attempts are in the usage twice")
        if differences := await asyncio.to_thread(compared):
            self.state.tally.broken.append(f"Redis differs from PostgreSQL in {differences} documents")
        self._report(grown, dropped, lost)

    async def _is_obeyed(self) -> bool:
        for worker in self.deployment.workers:
            for key in self.state.graves:
                if await self.caller.ask(worker, key.token, is_noted=False) != 401:
                    return False
            for tenant in self.state.tenants:
                for key in tenant.keys:
                    if await self.caller.ask(worker, key.token, is_noted=False) != 200:
                        return False
        return True

    async def _dropped(self, worker: Process) -> int:
        async with self.state.session.get(f"{self.deployment.url(worker)}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if 'gateway_usage_events{outcome="dropped"}' in line)

    def _report(self, grown: int, dropped: int, lost: int) -> None:
        tally = self.state.tally
        print(f"callers: {dict(sorted(tally.statuses.items()))}; read to their end: {len(tally.answered):,}")
        print(f"writes: {dict(sorted(tally.writes.items()))}")
        print(f"deletions: {tally.waited_deletions} applied everywhere when they answered, ", end="")
        print(f"{tally.unwaited_deletions} not known to be; deleted keys were shown {tally.graves_visited} times")
        print(f"faults: {dict(sorted(tally.faults.items()))}")
        print(
            f"usage: {len(tally.answered) - lost:,} of {len(tally.answered):,} answers; dropped by workers: {dropped}"
        )
        first = self.deployment.workers[0].name
        print(f"memory of {first}: {self.warm_bytes / 2**20:.1f} MiB when warm, {grown / 2**20:.1f} now")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Start the servers, run a soak, and exit with status 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=3, help="at least two: the first is never killed")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the order of writes and faults")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="gateway-soak-"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.seconds:.0f} s, seed {options.seed}")
    with ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        postgres, redis = stack.enter_context(PostgresServer()), stack.enter_context(RedisServer())
        deployment = Deployment(home, postgres, redis, workers=options.workers)
        state = SoakState(options.seed)
        os.environ |= deployment.environ
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        state.tenants = open_accounts(ACCOUNTS)
        for process in deployment.processes:
            stack.callback(process.end)
        asyncio.run(Soak(state, deployment, seconds=options.seconds).run())
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    for promise in state.tally.broken[:20]:
        print(f"BROKEN: {promise}")
    if state.tally.broken:
        sys.exit(1)
    print("Every promise was kept.")


if __name__ == "__main__":
    main()
