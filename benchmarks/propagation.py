"""How soon a write is in force at every worker, and whether a deleted key is accepted: `make bench-propagation`.

It runs on throw-away servers.

python -m benchmarks.propagation [--deletions 1000] [--workers 3] [--rate 500]

The control plane runs with the relay, and the workers are under traffic all the time. Each access key is
first sent to every worker, so that all of them hold it. Then it is deleted, and sent to each worker again as soon as
the deletion is answered. The measured time begins with the version of the publication, which is PostgreSQL's clock
right after the commit. It ends when the client has the answer that reports how many workers have applied it.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.load import SHORT_JSON
from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer
from tests.live import ControlPlane, control_plane
from tests.workers import WorkerProcess, free_port, worker_process

ROOT: Final = Path(__file__).resolve().parent.parent
_SECONDS_A_DELETION: Final = 0.5


class Deletion(NamedTuple):
    """One deletion. Times are in seconds."""

    whole: float
    from_commit: float
    applied: str
    # The number of workers that accepted the key afterwards.
    let_through: int


def main() -> None:
    """Start everything and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deletions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500)
    options = parser.parse_args()
    private_key = sealing.generate_private_key()
    with contextlib.ExitStack() as running:
        postgres = running.enter_context(PostgresServer())
        redis = running.enter_context(RedisServer())
        home = Path(running.enter_context(tempfile.TemporaryDirectory()))
        shared = {
            "GATEWAY_MODE": "evaluation",
            "REDIS_URL": redis.url,
            "DOCUMENT_KEYS": envelopes.generate_document_key(),
            "LOG_LEVEL": "WARNING",
        }
        plane = running.enter_context(
            control_plane(
                postgres.url,
                threads=8,
                SECRET_KEY="x" * 48,
                SEALING_PUBLIC_KEY=sealing.public_key_of(private_key),
                **shared,
            )
        )
        running.enter_context(_process(home, "manage.py", "relay", **plane.environ))
        command = [sys.executable, "manage.py", "rebuild_snapshots"]
        subprocess.run(command, env=plane.environ, cwd=ROOT, check=True)
        port = free_port()
        running.enter_context(_process(home, "-m", "benchmarks.stand_in", str(port), PATH=os.environ["PATH"]))
        workers = [
            running.enter_context(
                worker_process(
                    {
                        **shared,
                        "SEALING_PRIVATE_KEYS": private_key,
                        "UPSTREAM_BASE_URLS": f"openai=http://127.0.0.1:{port}/v1",
                    },
                    home,
                    code=ROOT,
                )
            )
            for _ in range(options.workers)
        ]
        measure(plane, workers, deletions=options.deletions, rate=options.rate)


def measure(plane: ControlPlane, workers: list[WorkerProcess], *, deletions: int, rate: int) -> None:
    """Delete access keys under traffic, and print the figures."""
    made = plane.request(
        "POST", "/provider-keys", {"providerId": "openai", "name": "own", "value": "sk-proj-0123456789abcdef"}
    )
    assert made.status == 201, made.body
    kept = str(plane.request("POST", "/access-keys", {}).json()["token"])
    keys = [plane.request("POST", "/access-keys", {}, Prefer="wait=0").json() for _ in range(deletions)]
    asking = [HTTPConnection("127.0.0.1", urlsplit(worker.url).port, timeout=30) for worker in workers]
    for key in keys:
        assert all(_ask(worker, key["token"]) == 200 for worker in asking), "a new key is refused"
    with contextlib.ExitStack() as running:
        for worker in workers:
            seconds = 2 + deletions * _SECONDS_A_DELETION
            running.enter_context(_traffic(worker, kept, rate=rate / len(workers), seconds=seconds))
        time.sleep(1)
        began = time.monotonic()
        found = [_delete(plane, key, asking) for key in keys]
        took = time.monotonic() - began
    for asked in asking:
        asked.close()
    all_of_them = f"{len(workers)}/{len(workers)}"
    busy = os.getloadavg()[0]
    print(f"{len(workers)} workers, {rate} requests/s, {deletions} deletions in {took:.0f} s, load {busy:.1f}")
    print("\n| | p50 | p99 |\n|---|---|---|")
    _row("from the commit until all have applied it", [deletion.from_commit for deletion in found])
    _row("the whole request", [deletion.whole for deletion in found])
    print("\n| | |\n|---|---|")
    sure = [deletion for deletion in found if deletion.applied == all_of_them]
    unsure = [deletion for deletion in found if deletion.applied != all_of_them]
    receipts = ", ".join(
        f"{count} × {text or 'nothing'}" for text, count in Counter(deletion.applied for deletion in unsure).items()
    )
    print(
        f"| deletions whose answer reported after one second that not all had applied them | {len(unsure)} {receipts} |"
    )
    let_through = sum(deletion.let_through for deletion in sure)
    after_unsure = sum(deletion.let_through for deletion in unsure)
    print(f"| requests with a deleted key that were accepted after one of these | {after_unsure} |")
    print(f"| and after one of the {len(sure)} that all had applied | {let_through} |")
    if let_through:
        sys.exit("a deletion that all workers had applied was not in force")


def _row(what: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(f"| {what} | {cuts[49] * 1e3:.1f} ms | {cuts[98] * 1e3:.1f} ms |")


def _delete(plane: ControlPlane, key: dict[str, str], asking: list[HTTPConnection]) -> Deletion:
    began = time.time()
    answer = plane.request("DELETE", f"/access-keys/{key['id']}")
    ended = time.time()
    statuses = [_ask(worker, key["token"]) for worker in asking]
    assert answer.status == 204, answer.body
    return Deletion(
        whole=ended - began,
        from_commit=ended - int(answer.headers["gateway-snapshot-version"]) / 1e6,
        applied=answer.headers.get("gateway-snapshot-applied", ""),
        let_through=sum(status != 401 for status in statuses),
    )


def _ask(connection: HTTPConnection, token: str) -> int:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection.request("POST", load.PATH, SHORT_JSON.body, headers)
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


@contextlib.contextmanager
def _traffic(worker: WorkerProcess, token: str, *, rate: float, seconds: float) -> Iterator[None]:
    """Send requests at a rate until the block ends. Each must be answered with 200."""
    command = [sys.executable, "-m", "benchmarks.load", worker.url, f"{rate:g}", f"{seconds:g}"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        assert process.stdin is not None
        process.stdin.write(f"{token}\n{SHORT_JSON.body.decode()}".encode())
        process.stdin.close()
        try:
            yield
            log.seek(0)
            assert process.poll() in {None, 0}, log.read().decode()
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _process(home: Path, *command: str, **environ: str) -> Iterator[None]:
    with (home / f"{command[-1]}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
