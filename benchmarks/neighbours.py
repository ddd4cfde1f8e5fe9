"""What an access key waits beside another account that behaves badly: `make bench-neighbours`.

python -m benchmarks.neighbours [--seconds 20]

Each kind of neighbour acts from a process of its own, which is callers and upstream at once: a name server that does
not answer, interim answers without end, heads of answers without end, and callers who hang up behind large bodies.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import psutil
from redis import Redis

from gateway_core import envelopes, sealing
from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from local.embedded import RedisServer
from tests.hostile.data_plane.test_names import NameServer
from tests.workers import ROOT, Client, SnapshotWriter, WorkerProcess, free_port, worker_process

_KEY: Final = "sk-bystander-0123456789abcdef"
_CALLERS: Final = 12
_LARGE: Final = 300_000
_INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 100
_HEADERS: Final = b"x-filler: y\r\n" * 100


async def _pour(writer: asyncio.StreamWriter, begin: bytes, piece: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()
    writer.transport.abort()


async def _interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await _pour(writer, b"", _INTERIM)


async def _heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await _pour(writer, b"HTTP/1.1 200 OK\r\n", _HEADERS)


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.transport.abort()


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes, patience: float) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with session.post(url, data=body, timeout=aiohttp.ClientTimeout(total=patience)) as answer:
            await answer.read()


# By kind: what the upstream does, how long a message is, and after how many seconds its caller hangs up.
_Upstream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KINDS: Final[dict[str, tuple[_Upstream, int, float]]] = {
    "dead names": (_silence, 1, 30.0),
    "interim answers": (_interim, 1, 30.0),
    "endless heads": (_heads, 1, 30.0),
    "hang-ups": (_silence, _LARGE, 0.05),
}


async def _neighbour(kind: str, port: int, url: str, token: str) -> None:
    upstream, length, patience = KINDS[kind]
    headers = {"authorization": f"Bearer {token}"}
    async with (
        await asyncio.start_server(upstream, "127.0.0.1", port),
        aiohttp.ClientSession(headers=headers) as session,
    ):
        print("up", flush=True)

        async def act(number: int) -> None:
            body = b'{"model":"n%d:x","messages":[{"role":"user","content":"%b"}]}' % (number, b"a" * length)
            while True:
                await _ask(session, f"{url}/v1/chat/completions", body, patience)

        await asyncio.gather(*map(act, range(_CALLERS)))


@contextlib.asynccontextmanager
async def _process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _measure(client: Client, token: str, seconds: float) -> float:
    """The bystander's p99, in milliseconds."""
    waits, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        await client.chat(token)
        waits.append(time.perf_counter() - begin)
    return statistics.quantiles(waits, n=100)[98] * 1000


def _processor(worker: WorkerProcess) -> float:
    return float(sum(psutil.Process(worker.process.pid).cpu_times()[:2]))


async def measure(seconds: float) -> None:
    """Measure beside nobody and beside each kind, and print."""
    private, port, theirs = sealing.generate_private_key(), free_port(), free_port()
    with RedisServer() as redis, tempfile.TemporaryDirectory() as directory:
        document_keys = envelopes.generate_document_key()
        public = SealingKey.parse(sealing.public_key_of(private))
        writer = SnapshotWriter(Redis.from_url(redis.url), Keys("gw"), DocumentKeys.parse(document_keys), public)
        writer.begin_epoch()
        writer.catalog()
        async with NameServer.running() as names, aiohttp.ClientSession() as session:
            environ = {
                "GATEWAY_MODE": "evaluation",
                "REDIS_URL": redis.url,
                "DOCUMENT_KEYS": document_keys,
                "SEALING_PRIVATE_KEYS": private,
                "UPSTREAM_BASE_URLS": f"openai=http://127.0.0.1:{port}/v1",
                "DNS_SERVERS": f"127.0.0.1:{names.port}",
                "DNS_FAILURES_KEPT": "0",
            }
            with worker_process({**os.environ, **environ}, Path(directory), code=ROOT) as worker:
                client, bystander = Client(session, worker.url), writer.tenant().routed(_KEY)
                async with _process("benchmarks.stand_in", str(port)):
                    alone = await _measure(client, bystander, seconds)
                    print(f"{'nobody':16} p99 {alone:6.1f} ms")
                    for kind in KINDS:
                        tenant = writer.tenant()
                        for number in range(_CALLERS):
                            host = f"dead{number}.example" if kind == "dead names" else "127.0.0.1"
                            tenant.provider(f"n{number}", f"http://{host}:{theirs}/v1")
                        command = ("benchmarks.neighbours", "--kind", kind, "--port", str(theirs))
                        async with _process(*command, "--url", worker.url, "--token", tenant.token()) as process:
                            assert process.stdout is not None
                            await process.stdout.readline()
                            used = _processor(worker)
                            p99 = await _measure(client, bystander, seconds)
                            used = _processor(worker) - used
                        print(
                            f"{kind:16} p99 {p99:6.1f} ms, {p99 - alone:+.1f} ms; {used / seconds:.0%} of a processor"
                        )


def main() -> None:
    """Measure, or be a neighbour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        asyncio.run(_neighbour(options.kind, options.port, options.url, options.token))
    else:
        asyncio.run(measure(options.seconds))


if __name__ == "__main__":
    main()
