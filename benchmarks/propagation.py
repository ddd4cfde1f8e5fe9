"""How soon a committed write is in force at every worker, and whether a deleted key ever gets through, in one run on
throw-away servers of its own.

python -m benchmarks.propagation [--deletions 1000] [--workers 3] [--rate 500]

The control plane is on granian, the relay beside it, and the workers are under traffic all the time. Each access key is
shown at every worker first, so that all of them hold it; then it is deleted, and shown again at each as soon as the
deletion has answered. The time from the commit is told by the version of the publication, which is PostgreSQL's clock
right after the commit, and ends when the client has the answer that says where it is applied.
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
    """One deletion. Seconds."""

    whole: float
    from_commit: float
    applied: str
    # How many workers let the key through afterwards.
    let_through: int


def main() -> None:
    """Start everything, measure, print."""
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
                )
            )
            for _ in range(options.workers)
        ]
        measure(plane, workers, deletions=options.deletions, rate=options.rate)


def measure(plane: ControlPlane, workers: list[WorkerProcess], *, deletions: int, rate: int) -> None:
    """The figures."""
    made = plane.request(
        "POST", "/provider-keys", {"providerId": "openai", "name": "own", "value": "sk-proj-0123456789abcdef"}
    )
    assert made.status == 201, made.body
    kept = str(plane.request("POST", "/access-keys", {}).json()["token"])
    keys = [plane.request("POST", "/access-keys", {}, Prefer="wait=0").json() for _ in range(deletions)]
    asking = [HTTPConnection("127.0.0.1", urlsplit(worker.url).port, timeout=30) for worker in workers]
    for key in keys:
        assert all(_ask(one, key["token"]) == 200 for one in asking), "a new key is refused"
    with contextlib.ExitStack() as running:
        for worker in workers:
            seconds = 2 + deletions * _SECONDS_A_DELETION
            running.enter_context(_traffic(worker, kept, rate=rate / len(workers), seconds=seconds))
        time.sleep(1)
        began = time.monotonic()
        found = [_delete(plane, key, asking) for key in keys]
        took = time.monotonic() - began
    for one in asking:
        one.close()
    all_of_them = f"{len(workers)}/{len(workers)}"
    busy = os.getloadavg()[0]
    print(f"{len(workers)} workers, {rate} requests/s, {deletions} deletions in {took:.0f} s, load {busy:.1f}")
    print("\n| | p50 | p99 |\n|---|---|---|")
    _row("from the commit until all have applied it", [one.from_commit for one in found])
    _row("the whole request", [one.whole for one in found])
    print("\n| | |\n|---|---|")
    sure = [one for one in found if one.applied == all_of_them]
    unsure = [one for one in found if one.applied != all_of_them]
    told = ", ".join(f"{count} × {text or 'nothing'}" for text, count in Counter(one.applied for one in unsure).items())
    print(f"| deletions that said after one second that not all had applied them | {len(unsure)} {told} |")
    print(f"| requests that a deleted key got through after one of these | {sum(one.let_through for one in unsure)} |")
    print(f"| and after one of the {len(sure)} that all had applied | {sum(one.let_through for one in sure)} |")
    if any(one.let_through for one in sure):
        sys.exit("a deletion that all workers had applied was not in force")


def _row(what: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(f"| {what} | {cuts[49] * 1e3:.1f} ms | {cuts[98] * 1e3:.1f} ms |")


def _delete(plane: ControlPlane, key: dict[str, str], asking: list[HTTPConnection]) -> Deletion:
    began = time.time()
    answer = plane.request("DELETE", f"/access-keys/{key['id']}")
    ended = time.time()
    statuses = [_ask(one, key["token"]) for one in asking]
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
    """Requests at a rate, until the block ends; each must be answered with 200."""
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
