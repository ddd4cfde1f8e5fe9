"""The cost of the worker compared with a bare pass-through, in one run on throw-away servers: `make bench`.

python -m benchmarks.data_plane [--rounds 5] [--seconds 5] [--only throughput,latency,resolve,memory,scale]
                                [--beside CHECKOUT]

The measured process has a core to itself; the load, the stand-in upstream and Redis share the others. The rounds
alternate between the compared servers, so that noise of the machine affects all of them, and the tables show medians.
The tables also show the processor time for one request, which other work on the machine changes least.
"""

import argparse
import contextlib
import http.client
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import psutil
from genai_prices import data_snapshot
from redis import Redis

from benchmarks import load
from benchmarks.load import PACED_STREAM, SHORT_JSON, STREAM, Ask
from data_plane.state.documents import Versioned
from data_plane.state.held import HeldAccount
from gateway_core import envelopes, ids, policy, sealing, snapshot
from gateway_core.catalog import Catalog, Surface
from gateway_core.envelopes import DocumentKeys
from gateway_core.limits.limit import Limit
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import ConfigurationDocument, Keys, Rule, Scope, Step
from local.embedded import RedisServer
from providers.catalog_models import models_document_of
from tests.workers import SnapshotWriter, Tenant, free_port, new_id

ROOT: Final = Path(__file__).resolve().parent.parent
CONNECTIONS: Final = 32
WARM_SECONDS: Final = 2.0
MIB: Final = 2**20
PARTS: Final = ("throughput", "latency", "resolve", "memory", "scale")
HELD_ACCESS_KEYS: Final = 100_000
HELD_CONFIGURATIONS: Final = 1_000


class Cores(NamedTuple):
    """The processor cores of the measured process and of everything else."""

    measured: set[int]
    others: set[int]

    @classmethod
    def of_machine(cls) -> "Cores":
        """The first core for the measured process, the rest for everything else."""
        first, *rest = sorted(os.sched_getaffinity(0))
        return cls({first}, set(rest) or {first})


class Server(NamedTuple):
    """A server process with its child processes."""

    name: str
    url: str
    process: psutil.Process

    def processor_seconds(self) -> float:
        """The processor time that the server has used so far, in seconds."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in family)

    def memory(self) -> float:
        """The resident memory of the server, in MiB."""
        return float(self.process.memory_info().rss) / MIB


class Measured(NamedTuple):
    """The figures of one round."""

    rate: float
    # Microseconds of processor time for one request.
    cost: float


def main() -> None:
    """Start the servers and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--beside", type=Path, help="a checkout of another release: its worker is measured too")
    options = parser.parse_args()
    parts = options.only.split(",")
    load.find_wrk()
    print(_machine())
    bench = Bench(options.rounds, options.seconds)
    with contextlib.ExitStack() as running:
        bench.start(running)
        if "throughput" in parts or "latency" in parts:
            bench.measure_beside_bare(options.beside, with_latency="latency" in parts)
        if "resolve" in parts:
            measure_resolve()
        if "memory" in parts:
            bench.measure_memory()
        if "scale" in parts:
            bench.measure_scale()


class Bench:
    """The servers and the measurements that need them."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.cores = Cores.of_machine()

    def start(self, running: contextlib.ExitStack) -> None:
        """Start Redis with a snapshot in it, and the stand-in upstream."""
        redis = running.enter_context(RedisServer())
        private = sealing.generate_private_key()
        self.environ = {
            "GATEWAY_MODE": "evaluation",
            "REDIS_URL": redis.url,
            "DOCUMENT_KEYS": envelopes.generate_document_key(),
            "SEALING_PRIVATE_KEYS": private,
            "LOG_LEVEL": "WARNING",
        }
        port = free_port()
        self.upstream = running.enter_context(
            self._server("the stand-in upstream", "benchmarks.stand_in", str(port), port=port, cores=self.cores.others)
        )
        self.environ["UPSTREAM_BASE_URLS"] = f"openai={self.upstream.url}/v1"
        client = Redis.from_url(redis.url)
        running.callback(client.close)
        self.writer = SnapshotWriter(
            client,
            Keys("gw"),
            DocumentKeys.parse(self.environ["DOCUMENT_KEYS"]),
            SealingKey.parse(sealing.public_key_of(private)),
        )
        self.writer.begin_epoch()
        self.writer.catalog(models_document_of(data_snapshot.get_snapshot()))
        self.tenant = self.writer.tenant()
        self.token = self.tenant.token(configuration=self._configuration(self.tenant))

    def limited_token(self, limits: tuple[Limit, ...]) -> str:
        """Another access key of the same account and configuration, with limits."""
        return self.tenant.token(configuration=self._configuration(self.tenant), limits=limits)

    def _configuration(self, tenant: Tenant) -> str:
        step = Step(type="user", keys=tuple(tenant.keys("sk-proj-0123456789abcdef", "sk-proj-fedcba9876543210")))
        scope = Scope(models=(("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5")))
        return tenant.configuration(Rule(provider="openai", steps=(step,)), scope=scope)

    # ── processes ──

    @contextlib.contextmanager
    def _server(
        self,
        name: str,
        *command: str,
        port: int,
        cores: set[int],
        path: str | None = None,
        root: Path = ROOT,
        **environ: str,
    ) -> Iterator[Server]:
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", *command],
                cwd=root,
                env={"PATH": os.environ["PATH"], **environ},
                stdout=log,
                stderr=log,
            )
            try:
                _await(process, port, path)
                yield Server(name, f"http://127.0.0.1:{port}", psutil.Process(process.pid))
            except RuntimeError:
                log.seek(0)
                sys.exit(log.read().decode())
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)

    def worker(self, *, cores: set[int] | None = None, root: Path = ROOT) -> contextlib.AbstractContextManager[Server]:
        """A worker process, of this checkout or another."""
        port = free_port()
        name = "the worker" if root == ROOT else f"the worker in {root.name}"
        return self._server(
            name, "data_plane", "serve", port=port, path="/readyz", cores=cores or self.cores.measured, root=root,
            **self.environ, DATA_PLANE_PORT=str(port),
        )  # fmt: skip

    def _bare(self, server: str) -> contextlib.AbstractContextManager[Server]:
        port = free_port()
        where = ("--host", "127.0.0.1", "--port", str(port))
        command = {
            "granian": ("granian", "--interface", "asginl", "--loop", "uvloop", "--no-access-log", *where),
            "uvicorn": (
                "uvicorn", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log", *where
            ),
        }[server]  # fmt: skip
        return self._server(
            f"bare on {server}", *command, "benchmarks.bare:app", port=port, path="/", cores=self.cores.measured,
            UPSTREAM=self.upstream.url + load.PATH,
        )  # fmt: skip

    def round(self, server: Server, ask: Ask, seconds: float) -> Measured:
        """Load a server for some seconds."""
        before = server.processor_seconds()
        rate = load.wrk(server.url, ask, self.token, seconds=seconds, connections=CONNECTIONS, cores=self.cores.others)
        return Measured(rate, (server.processor_seconds() - before) / (rate * seconds) * 1e6)

    # ── what is measured ──

    def measure_beside_bare(self, other: Path | None, *, with_latency: bool) -> None:
        """Measure throughput, cost and latency of the worker, of a bare pass-through and of another worker."""
        rows: list[tuple[str, ...]] = []
        waits: list[tuple[str, ...]] = []
        with contextlib.ExitStack() as running:
            granian, uvicorn = (running.enter_context(self._bare(name)) for name in ("granian", "uvicorn"))
            worker = running.enter_context(self.worker())
            servers = [granian, uvicorn, worker]
            if other is not None:
                servers.append(running.enter_context(self.worker(root=other)))
            for ask in (SHORT_JSON, STREAM, PACED_STREAM):
                found = self._compare(servers, ask)
                ours = found[worker.name]
                alone = load.wrk(
                    self.upstream.url, ask, self.token, seconds=WARM_SECONDS, connections=CONNECTIONS,
                    cores=self.cores.others,
                )  # fmt: skip
                rows.append((ask.name, self.upstream.name, f"{alone:,.0f}", "", "", ""))
                rows += [
                    (
                        ask.name, name, f"{one.rate:,.0f}", f"{one.cost:.0f}",
                        f"{ours.rate / one.rate:.2f}", f"{one.cost / ours.cost:.2f}",
                    )
                    for name, one in found.items()
                ]  # fmt: skip
                if ask is not PACED_STREAM and with_latency:
                    bare = max((granian, uvicorn), key=lambda one: found[one.name].rate)
                    waits.append(self._latency(ask, bare, worker, min(ours.rate, found[bare.name].rate) / 2))
        table(("one core", "", "requests/s", "CPU µs each", "the worker / it", "its CPU / the worker's"), rows)
        if waits:
            table(("at half load", "rate", "bare p50 ms", "worker p50 ms", "added ms", "added p99 ms"), waits)

    def _compare(self, servers: Iterable[Server], ask: Ask) -> dict[str, Measured]:
        """Run the servers in alternating rounds, and return the medians by the server's name."""
        rounds: dict[str, list[Measured]] = {}
        for server in servers:
            self.round(server, ask, WARM_SECONDS)
        for _ in range(self.rounds):
            for server in servers:
                rounds.setdefault(server.name, []).append(self.round(server, ask, self.seconds))
        return {
            name: Measured(
                statistics.median(one.rate for one in measured), statistics.median(one.cost for one in measured)
            )
            for name, measured in rounds.items()
        }

    def _latency(self, ask: Ask, bare: Server, worker: Server, rate: float) -> tuple[str, ...]:
        p50: dict[str, list[float]] = {bare.name: [], worker.name: []}
        p99: dict[str, list[float]] = {bare.name: [], worker.name: []}
        for _ in range(self.rounds):
            for server in (bare, worker):
                waits = load.at_rate(
                    server.url, ask, self.token, rate=rate, seconds=self.seconds + 1, cores=self.cores.others
                )
                cuts = statistics.quantiles(waits, n=100)
                p50[server.name].append(cuts[49] * 1000)
                p99[server.name].append(cuts[98] * 1000)
        one, other = statistics.median(p50[bare.name]), statistics.median(p50[worker.name])
        tail = statistics.median(p99[worker.name]) - statistics.median(p99[bare.name])
        return ask.name, f"{rate:,.0f}/s", f"{one:.2f}", f"{other:.2f}", f"{other - one:.2f}", f"{tail:.2f}"

    def measure_memory(self) -> None:
        """Measure the memory of a worker at rest, and of a worker that holds many access keys."""
        with self.worker() as worker:
            time.sleep(1)
            at_rest = worker.memory()
            self.round(worker, SHORT_JSON, 1.0)
            held = self._fill()
            held_text = f"{held:,} access keys and {HELD_CONFIGURATIONS:,} configurations"
            self._await_token(worker)
            rows = [("at rest", f"{at_rest:.0f}"), (f"holding {held_text}", f"{worker.memory():.0f}")]
        table(("a worker's memory", "MiB"), rows)

    def _fill(self) -> int:
        """Publish many access keys and configurations of the account that the worker holds."""
        tenant = self.tenant
        configurations = []
        for number in range(0, HELD_CONFIGURATIONS, 100):
            step = Step(type="user", keys=tuple(tenant.keys(f"sk-proj-{number:016}", f"sk-proj-{number:017}")))
            rules = tuple(Rule(provider=one, steps=(step,)) for one in ("openai",))
            document = ConfigurationDocument(
                scope=Scope(models=tuple(("openai", f"gpt-4o-{each}") for each in range(20))), rules=rules
            )
            names = [new_id(ids.Prefix.CONFIGURATION) for _ in range(100)]
            tenant.publish({snapshot.configuration_document(name): document for name in names})
            configurations += names
        for number in range(0, HELD_ACCESS_KEYS, 500):
            tenant.publish(
                {
                    snapshot.token_document(f"{each:064x}"): tenant.token_document(
                        configuration=configurations[each % len(configurations)]
                    )
                    for each in range(number, number + 500)
                }
            )
        return HELD_ACCESS_KEYS

    def _await_token(self, worker: Server) -> None:
        """Wait until the worker has passed everything that was published."""
        last = self.tenant.token(configuration=None)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            connection = http.client.HTTPConnection(urlsplit(worker.url).netloc, timeout=10)
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {last}"})
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                time.sleep(1)
                return
            time.sleep(0.1)
        sys.exit("the worker did not apply what was published")

    def measure_scale(self) -> None:
        """Measure one worker process and two, on all cores, together with the load and the upstream."""
        rows = []
        everywhere = os.sched_getaffinity(0)
        with self.worker(cores=everywhere) as one, self.worker(cores=everywhere) as other:
            for ask in (SHORT_JSON, STREAM):
                for server in (one, other):
                    self.round(server, ask, WARM_SECONDS)
                single, double = [], []
                for _ in range(self.rounds):
                    single.append(self._together([one], ask))
                    double.append(self._together([one, other], ask))
                first, second = statistics.median(single), statistics.median(double)
                rows.append((ask.name, f"{first:,.0f}", f"{second:,.0f}", f"{second / first:.2f}"))
        table(("requests/s, all on the same cores", "one process", "two processes", "two / one"), rows)

    def _together(self, servers: list[Server], ask: Ask) -> float:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(servers)) as pool:
            return sum(
                pool.map(
                    lambda server: load.wrk(
                        server.url, ask, self.token, seconds=self.seconds,
                        connections=CONNECTIONS // len(servers), cores=os.sched_getaffinity(0),
                    ),
                    servers,
                )
            )  # fmt: skip


def measure_resolve() -> None:
    """Measure the policy alone, for a key whose configuration has a scope and rules, with the whole catalog."""
    catalog = Catalog(models_document_of(data_snapshot.get_snapshot()), version=1)
    account = HeldAccount(new_id(ids.Prefix.ACCOUNT))
    keys = [new_id(ids.Prefix.PROVIDER_KEY) for _ in range(20)]
    step = Step(type="user", keys=tuple(keys[:3]))
    scope = Scope(models=tuple(("openai", model.id) for model in list(catalog.models("openai"))[:50]))
    scope = Scope(models=(*(scope.models or ()), ("openai", "gpt-4o"), ("", "meta-llama/llama-3.3-70b-instruct")))
    name = new_id(ids.Prefix.CONFIGURATION)
    documents: dict[str, Any] = {
        snapshot.provider_key_document(key): snapshot.ProviderKeyDocument(provider="openai", mask="***", sealed=b"")
        for key in keys
    }
    documents[snapshot.configuration_document(name)] = ConfigurationDocument(
        scope=scope, rules=(Rule(provider="openai", steps=(step,)),)
    )
    account.become(1, {one: Versioned(1, document) for one, document in documents.items()}, frozenset())
    rows = []
    for asked in (("gpt-4o",), ("openai:gpt-4o",), ("openai/gpt-4o",), ("gpt-4o", "openai:gpt-4o-mini")):
        cached = _each(partial(account.resolve, catalog, name, asked, Surface.CHAT_COMPLETIONS))
        fresh = _each(
            partial(
                policy.resolve, account.snapshot, catalog,
                configuration=name, requested=asked, surface=Surface.CHAT_COMPLETIONS,
            )
        )  # fmt: skip
        rows.append((", ".join(asked), f"{cached:.2f}", f"{fresh:.1f}"))
    table(("resolve, µs", "from cache", "without"), rows)


def _each(call: Callable[[], object]) -> float:
    """The median of nine measurements, in microseconds per call."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        for _ in range(2000):
            call()
        times.append((time.perf_counter() - began) / 2000 * 1e6)
    return statistics.median(times)


def _await(process: "subprocess.Popen[bytes]", port: int, path: str | None) -> None:
    """Wait until a process answers.

    Raises:
        RuntimeError: the process has ended, or a minute has passed.
    """
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            if path is None:
                connection.connect()
                return
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise RuntimeError


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}; "
        f"load {os.getloadavg()[0]:.1f} before we begin"
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print()
    for row in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
