"""Search for the bodies that cost a worker most, and what another access key waits beside them: `make bench-bystander`.

python -m benchmarks.bystander [--seconds 600] [--seed 1] [--keep DIRECTORY]

Shapes of bodies are mixed and resized at random, and those that cost most are mixed further. One access key sends them;
another asks for short answers meanwhile. The worst by the worker's processor time are printed, and kept as files where
a directory is named. Worker and upstream are processes of their own. The callers share one, so on a machine with few
cores what they take to send a body counts as waiting; the worker's longest step and its processor do not have that.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import psutil
from redis import Redis

from gateway_core import envelopes, sealing
from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from local.embedded import RedisServer
from tests.hostile.data_plane.shapes import SHAPES
from tests.workers import ROOT, Client, SnapshotWriter, free_port, worker_process

MIB: Final = 1024 * 1024
SIZES: Final = (MIB, 32 * MIB - 1024)
_KEPT: Final = 12
_KEY: Final = "sk-bystander-0123456789abcdef"
# Seconds of the worker's own processor in one step, over which it logs a warning.
_LONG_STEP: Final = 0.005
_STEP: Final = re.compile(r"a step kept .*seconds=([0-9.]+)")

NAMES: Final = ("messages", "tools", "prompt", "input", "metadata", "vendors_own", "options", "models", "stop")


class Seed(NamedTuple):
    """A body as the search changes it: parts as (member, shape, share of the bytes)."""

    parts: tuple[tuple[str, str, float], ...]
    is_flat: bool = False

    def body(self, size: int) -> bytes:
        """A request body of about this many bytes."""
        whole = sum(share for _, _, share in self.parts)
        members = [
            b'"%b":%b' % (name.encode(), SHAPES[shape](int(size * share / whole * 0.98)))
            for name, shape, share in self.parts
        ]
        if self.is_flat:
            members += [b'"f%x":1' % one for one in range(min(size, 8 * MIB) // 12)]
        return b'{"model":"openai:gpt-4o",' + b",".join(members) + b"}"


class Cost(NamedTuple):
    """What one body cost."""

    processor: float
    worst_wait: float
    status: int
    size: int
    seed: Seed


def changed(seed: Seed, chance: random.Random) -> Seed:
    """Another seed near this one."""
    parts = {name: (shape, share) for name, shape, share in seed.parts}
    parts[chance.choice(NAMES)] = chance.choice(list(SHAPES)), chance.choice([0.05, 0.5, 1.0])
    while len(parts) > 1 and chance.random() < 0.5:
        parts.pop(chance.choice(list(parts)))
    return Seed(tuple((name, *part) for name, part in parts.items()), chance.random() < 0.1)


class Search:
    """One worker, one hostile access key, one bystander."""

    def __init__(self, client: Client, process: psutil.Process, hostile: str, bystander: str) -> None:
        self._client = client
        self._process = process
        self._hostile = hostile
        self._bystander = bystander
        self.waits: list[float] = []
        self.worst: list[Cost] = []

    async def wait_alone(self, count: int) -> list[float]:
        """What the bystander waits beside nobody, in seconds."""
        return [await self._ask() for _ in range(count)]

    async def _ask(self) -> float:
        begin = time.perf_counter()
        await self._client.chat(self._bystander)
        return time.perf_counter() - begin

    def _processor(self) -> float:
        return float(sum(self._process.cpu_times()[:2]))

    async def measure(self, seed: Seed, size: int) -> Cost:
        """Send a body once, and ask beside it until its answer has come."""
        body = seed.body(size)
        before = self._processor()
        sending = asyncio.create_task(self._client.chat(self._hostile, raw=body))
        waits = [await self._ask()]
        while not sending.done():
            waits.append(await self._ask())
        answer = await sending
        self.waits += waits
        cost = Cost(self._processor() - before, max(waits), answer.status, len(body), seed)
        self.worst = sorted([*self.worst, cost], reverse=True)[:_KEPT]
        return cost

    async def run(self, seconds: float, chance: random.Random) -> int:
        """Search for so many seconds; how many bodies were sent."""
        first = [Seed((("messages", shape, 1.0),)) for shape in SHAPES]
        sent, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            seed = first.pop() if first else changed(chance.choice(self.worst).seed, chance)
            await self.measure(seed, chance.choice(SIZES))
            sent += 1
        return sent


def _p99(waits: Sequence[float]) -> float:
    return statistics.quantiles(waits, n=100)[98] * 1000


@contextlib.asynccontextmanager
async def _upstream(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.stand_in", str(port), cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _search(seconds: float, seed: int) -> list[Cost]:
    private = sealing.generate_private_key()
    with RedisServer() as redis, tempfile.TemporaryDirectory() as directory:
        document_keys = envelopes.generate_document_key()
        public = SealingKey.parse(sealing.public_key_of(private))
        writer = SnapshotWriter(Redis.from_url(redis.url), Keys("gw"), DocumentKeys.parse(document_keys), public)
        writer.begin_epoch()
        writer.catalog()
        port = free_port()
        async with _upstream(port), aiohttp.ClientSession() as session:
            environ = {
                "GATEWAY_MODE": "evaluation",
                "REDIS_URL": redis.url,
                "DOCUMENT_KEYS": document_keys,
                "SEALING_PRIVATE_KEYS": private,
                "STEP_WARNING": str(_LONG_STEP),
                "UPSTREAM_BASE_URLS": f"openai=http://127.0.0.1:{port}/v1",
            }
            with worker_process({**os.environ, **environ}, Path(directory), code=ROOT) as worker:
                tokens = [writer.tenant().routed(_KEY) for _ in range(2)]
                process = psutil.Process(worker.process.pid)
                search = Search(Client(session, worker.url), process, *tokens)
                alone = await search.wait_alone(300)
                begun = len(worker.log.read_text())
                sent = await search.run(seconds, random.Random(seed))
                print(f"{sent} bodies; bystander p99 alone {_p99(alone):.1f} ms, beside {_p99(search.waits):.1f} ms")
                steps = [f"{1000 * float(step):.0f}" for step in _STEP.findall(worker.log.read_text()[begun:])]
                print(f"steps over {1000 * _LONG_STEP:.0f} ms, one in 10 s at most: {', '.join(steps) or 'none'}")
                for cost in search.worst:
                    print(
                        f"{1000 * cost.worst_wait:8.1f} ms waited {1000 * cost.processor:8.1f} ms of the processor"
                        f" {cost.size / MIB:5.1f} MiB {cost.status} {cost.seed}"
                    )
                return search.worst


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    worst = asyncio.run(_search(options.seconds, options.seed))
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        for place, cost in enumerate(worst):
            (options.keep / f"{place:02}.json").write_bytes(cost.seed.body(cost.size))


if __name__ == "__main__":
    main()
