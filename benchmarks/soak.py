"""Everything at once for a while: writes, callers and faults, against real processes. `make soak`, `DURATION=600`.

python -m benchmarks.soak [--seconds 600] [--workers 3] [--seed 1] [--keep]

Starts PostgreSQL, Redis, the control plane, the relay, Celery, some workers and a stand-in upstream. Writers create,
delete, disable and enable access keys, rotate provider keys and edit configurations; callers ask for answers and
streams, and cut some of them off; meanwhile processes are killed, Redis is killed, stopped and woken, PostgreSQL is
started anew. Ends with status 1 where one of these was broken:

- no valid access key was refused with 401;
- no access key was served after its deletion had answered that every worker has applied it;
- every answer that was read to its end is in the usage exactly once, but for what workers say that they dropped;
- nothing is in the usage twice;
- the memory of the worker that lived through it has not grown since it was warm;
- in the end Redis holds what PostgreSQL says, and each worker obeys it.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from gateway_core import envelopes, sealing
from local.embedded import PostgresServer, RedisServer
from local.embedded.server import free_port

ROOT: Final = Path(__file__).resolve().parent.parent
ACCOUNTS: Final = 6
CALLERS: Final = 8
WRITERS: Final = 3
KEYS_AT_LEAST: Final = 4
GRAVES: Final = 300
# From one fault to the next.
FAULT_SECONDS: Final = (4.0, 12.0)
SETTLE_SECONDS: Final = 90.0
# A worker is warm after so much of the soak, and may grow by so much until its end.
WARM: Final = 0.3
GROWTH: Final = 1.15
SLACK_BYTES: Final = 8 * 2**20


class Process:
    """One process of ours, with all that it starts."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], home: Path) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._log = (home / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, *self._command], cwd=ROOT, env=self._environ, stdout=self._log, stderr=self._log
        )

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it and its children."""
        if self.process is None:
            return
        with suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid)
            victims = [tree] if how == signal.SIGTERM else [*tree.children(recursive=True), tree]
            for one in victims:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(how)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.end()

    @property
    def rss(self) -> int:
        """Its resident memory, in bytes."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


@dataclass(eq=False)
class Key:
    """An access key, and what has become of it."""

    id: str
    token: str
    is_live: bool = True
    # When a write began that may end it, and when its deletion had answered that all have applied it.
    ended_at: float | None = None
    buried_at: float | None = None


@dataclass(eq=False)
class Tenant:
    """An account, and what the soak has made in it."""

    id: str
    api_key: str
    provider_key: str = ""
    configuration: str = ""
    keys: list[Key] = field(default_factory=list)


@dataclass
class Tally:
    """What was seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    # Request IDs of answers that were read to their end.
    answered: set[str] = field(default_factory=set)
    graves_visited: int = 0
    unwaited_deletions: int = 0
    waited_deletions: int = 0
    broken: list[str] = field(default_factory=list)


class Soak:
    """One soak."""

    def __init__(self, options: argparse.Namespace, home: Path, postgres: PostgresServer, redis: RedisServer) -> None:
        self.options = options
        self.home = home
        self.postgres = postgres
        self.redis = redis
        self.chance = random.Random(options.seed)
        self.tally = Tally()
        self.tenants: list[Tenant] = []
        self.graves: deque[Key] = deque(maxlen=GRAVES)
        self.ports = {"control-plane": free_port(), "upstream": free_port()}
        private = sealing.generate_private_key()
        self.environ = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "gateway_admin.settings",
            "GATEWAY_MODE": "evaluation",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SECRET_KEY": "x" * 48,
            "DOCUMENT_KEYS": envelopes.generate_document_key(),
            "SEALING_PUBLIC_KEY": sealing.public_key_of(private),
            "CATALOG_REFRESH": "false",
            "LOG_LEVEL": "WARNING",
        }
        upstream = f"http://127.0.0.1:{self.ports['upstream']}/v1"
        self._of_workers = self.environ | {
            "SEALING_PRIVATE_KEYS": private,
            "UPSTREAM_BASE_URLS": f"openai={upstream},anthropic={upstream}",
            "USAGE_SPOOL": str(home / "spool"),
            "DRAIN_TIMEOUT": "10",
        }
        self.workers = [self._worker(number) for number in range(options.workers)]
        serve = ("--interface", "wsgi", "--host", "127.0.0.1", "--workers", "1", "--blocking-threads", "8", "--no-ws")
        port = ("--port", str(self.ports["control-plane"]), "gateway_admin.wsgi:application")
        celery = ("-m", "celery", "-A", "gateway_admin")
        beat = ("beat", "--schedule", str(home / "beat"))
        of_tasks = ("worker", "--concurrency", "1", "--without-gossip", "--without-mingle")
        self.control_plane = self._process("control-plane", "-m", "granian", *serve, *port)
        self.relay = self._process("relay", "manage.py", "relay")
        self.celery = self._process("celery", *celery, *of_tasks)
        self.beat = self._process("beat", *celery, *beat)
        self.upstream = self._process("upstream", "-m", "local.stand_in", "--port", str(self.ports["upstream"]))
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]  # from `run` on
        self.is_over = False
        self.warm_bytes = 0

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, list(command), self.environ, self.home)

    def _worker(self, number: int) -> Process:
        name = f"worker-{number}"
        self.ports[name] = free_port()
        environ = self._of_workers | {"DATA_PLANE_PORT": str(self.ports[name])}
        return Process(name, ["-m", "data_plane", "serve"], environ, self.home)

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order in which they start."""
        return [self.upstream, self.relay, self.control_plane, *self.workers, self.celery, self.beat]

    def url(self, process: Process) -> str:
        """Where a process listens."""
        return f"http://127.0.0.1:{self.ports[process.name]}"

    # ── the whole ──

    async def run(self) -> None:
        """Start, soak, settle, judge."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as self.session:
            for process in self.processes:
                process.start()
            await self._until(self._is_ready, within=120, what="everything to start")
            for tenant in self.tenants:
                await self._furnish(tenant)
            began = time.monotonic()
            tasks = [
                *(asyncio.create_task(self._call_on()) for _ in range(CALLERS)),
                *(asyncio.create_task(self._write_on()) for _ in range(WRITERS)),
                asyncio.create_task(self._harm_on()),
            ]
            while (passed := time.monotonic() - began) < self.options.seconds:
                if not self.warm_bytes and passed > WARM * self.options.seconds:
                    self.warm_bytes = self.workers[0].rss
                await asyncio.sleep(min(5, max(0.1, self.options.seconds - passed)))
            self.is_over = True
            await asyncio.gather(*tasks)
            await self._settle()

    async def _until(self, holds: Callable[[], Awaitable[bool]], *, within: float, what: str) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                if await holds():
                    return True
            await asyncio.sleep(0.2)
        self.tally.broken.append(f"not within {within:.0f} s: {what}")
        return False

    async def _is_ready(self) -> bool:
        for process in (self.control_plane, *self.workers):
            async with self.session.get(f"{self.url(process)}/readyz") as answer:
                if answer.status != 200:
                    return False
        return True

    # ── writers ──

    async def _api(self, tenant: Tenant, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One write; its answer's status, headers and JSON. Status 0: nobody knows whether it was done."""
        sent = {"Authorization": f"Bearer {tenant.api_key}"} | headers
        try:
            async with self.session.request(
                method, f"{self.url(self.control_plane)}{path}", json=body, headers=sent
            ) as answer:
                told = await answer.json() if answer.status != 204 else {}
                return answer.status, answer.headers, told
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0, {}, {}

    async def _furnish(self, tenant: Tenant) -> None:
        """A provider key, a configuration that names it, and some access keys."""
        value = {"providerId": "openai", "name": "k", "value": f"sk-soak-{'0' * 24}"}
        _, _, made = await self._api(tenant, "POST", "/provider-keys", value)
        tenant.provider_key = made["id"]
        _, _, made = await self._api(tenant, "POST", "/access-key-configurations", self._configuration(tenant))
        tenant.configuration = made["id"]
        while len(tenant.keys) < 2 * KEYS_AT_LEAST:
            await self._create(tenant)

    def _configuration(self, tenant: Tenant) -> Any:
        steps = [{"type": "user", "keys": [{"id": tenant.provider_key}]}]
        return {"name": f"c {self.chance.random()}", "router": {"rules": [{"provider": "openai", "steps": steps}]}}

    async def _write_on(self) -> None:
        while not self.is_over:
            tenant = self.chance.choice(self.tenants)
            writes = [self._create, self._delete, self._delete, self._disable, self._rotate, self._edit]
            write = self.chance.choice(writes)
            if len(tenant.keys) <= KEYS_AT_LEAST:
                write = self._create
            elif len(tenant.keys) > 4 * KEYS_AT_LEAST:
                write = self._delete
            await write(tenant)
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    def _note(self, what: str, status: int) -> None:
        self.tally.writes[f"{what} {status or 'unanswered'}"] += 1

    @staticmethod
    def _is_applied(headers: Any) -> bool:
        """Whether the answer says that every worker has it."""
        applied, _, of = headers.get("gateway-snapshot-applied", "").partition("/")
        return bool(of) and applied == of != "0"

    async def _create(self, tenant: Tenant) -> None:
        body = {"accessKeyConfigurationId": tenant.configuration} if self.chance.random() < 0.5 else {}
        status, headers, made = await self._api(tenant, "POST", "/access-keys", body, Prefer="wait=5")
        self._note("create", status)
        if status != 201:
            return
        key = Key(made["id"], made["token"])
        # One that not every worker is known to have is no witness until each has served it.
        if self._is_applied(headers) or await self._until_all_serve(key):
            tenant.keys.append(key)

    async def _until_all_serve(self, key: Key) -> bool:
        for worker in self.workers:
            for _ in range(50):
                if self.is_over or await self._ask(worker, key.token, is_noted=False) == 200:
                    break
                await asyncio.sleep(0.2)
        return not self.is_over

    async def _delete(self, tenant: Tenant) -> None:
        key = tenant.keys.pop(self.chance.randrange(len(tenant.keys)))
        key.ended_at = time.monotonic()
        status, headers, _ = await self._api(tenant, "DELETE", f"/access-keys/{key.id}", Prefer="wait=5")
        self._note("delete", status)
        if status != 204:
            return
        if self._is_applied(headers):
            self.tally.waited_deletions += 1
            key.buried_at = time.monotonic()
        else:
            self.tally.unwaited_deletions += 1
        self.graves.append(key)

    async def _disable(self, tenant: Tenant) -> None:
        key = tenant.keys.pop(self.chance.randrange(len(tenant.keys)))
        key.ended_at = time.monotonic()
        status, headers, _ = await self._api(
            tenant, "PATCH", f"/access-keys/{key.id}", {"disabled": True}, Prefer="wait=5"
        )
        self._note("disable", status)
        if status == 200 and self._is_applied(headers):
            for worker in self.workers:
                if await self._ask(worker, key.token, is_noted=False) == 200:
                    self.tally.broken.append(f"{key.id} was served by {worker.name} after it was disabled everywhere")
        status, headers, _ = await self._api(
            tenant, "PATCH", f"/access-keys/{key.id}", {"disabled": False}, Prefer="wait=5"
        )
        self._note("enable", status)
        if status == 200 and (self._is_applied(headers) or await self._until_all_serve(key)):
            key.ended_at = None
            tenant.keys.append(key)

    async def _rotate(self, tenant: Tenant) -> None:
        value = {"name": "k", "value": f"sk-soak-{self.chance.randrange(10**24):024}"}
        status, _, _ = await self._api(tenant, "POST", f"/provider-keys/{tenant.provider_key}/rotate", value)
        self._note("rotate", status)

    async def _edit(self, tenant: Tenant) -> None:
        path = f"/access-key-configurations/{tenant.configuration}"
        status, _, _ = await self._api(tenant, "PATCH", path, self._configuration(tenant))
        self._note("edit", status)

    # ── callers ──

    async def _call_on(self) -> None:
        while not self.is_over:
            worker = self.chance.choice(self.workers)
            if self.graves and self.chance.random() < 0.1:
                await self._visit(worker, self.chance.choice(self.graves))
            elif (tenant := self.chance.choice(self.tenants)).keys:
                await self._use(worker, self.chance.choice(tenant.keys))
            await asyncio.sleep(self.chance.uniform(0, 0.05))

    async def _use(self, worker: Process, key: Key) -> None:
        status = await self._ask(worker, key.token)
        if status == 401 and key.ended_at is None:
            self.tally.broken.append(f"{key.id} is valid and was refused with 401 by {worker.name}")

    async def _visit(self, worker: Process, key: Key) -> None:
        asked_at = time.monotonic()
        status = await self._ask(worker, key.token, is_noted=False)
        self.tally.graves_visited += 1
        if status == 200 and key.buried_at is not None and asked_at > key.buried_at:
            self.tally.broken.append(f"{key.id} was served by {worker.name} after its deletion had answered")

    async def _ask(self, worker: Process, token: str, *, is_noted: bool = True) -> int:
        """One request, some of them streams, some cut off. Returns its status; 0: no answer."""
        is_stream, is_cut = self.chance.random() < 0.5, self.chance.random() < 0.15
        body = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": is_stream}
        headers = {"Authorization": f"Bearer {token}"}
        if is_stream and self.chance.random() < 0.1:
            headers["stand-in"] = "slow"
        status = 0
        try:
            async with self.session.post(
                f"{self.url(worker)}/v1/chat/completions", json=body, headers=headers
            ) as answer:
                status = answer.status
                if is_cut:
                    if is_stream:
                        await answer.content.readany()
                    answer.close()
                else:
                    read = await answer.read()
                    is_whole = read.rstrip().endswith(b"[DONE]") if is_stream else True
                    if status == 200 and is_whole:
                        self.tally.answered.add(answer.headers["x-request-id"])
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.tally.statuses[f"broken off by {worker.name}"] += 1
            return status
        if is_noted:
            self.tally.statuses[str(status)] += 1
        return status

    # ── faults ──

    async def _harm_on(self) -> None:
        harms: list[Callable[[], Awaitable[None]]] = [
            self._kill_worker,
            self._kill_worker,
            lambda: self._kill(self.relay),
            lambda: self._kill(self.control_plane),
            lambda: self._kill(self.celery),
            self._restart_redis,
            self._pause_redis,
            self._restart_postgres,
        ]
        while not self.is_over:
            await asyncio.sleep(self.chance.uniform(*FAULT_SECONDS))
            if not self.is_over:
                await self.chance.choice(harms)()

    async def _kill(self, process: Process) -> None:
        self.tally.faults[f"{process.name} killed"] += 1
        await asyncio.to_thread(process.end)
        process.start()

    async def _kill_worker(self) -> None:
        """Any but the first, whose memory is watched. Its report is taken out of the count, as an operator does."""
        worker = self.chance.choice(self.workers[1:])
        assert worker.process is not None
        gone = worker.process.pid
        await self._kill(worker)
        await asyncio.to_thread(forget, gone)

    async def _restart_redis(self) -> None:
        self.tally.faults["Redis killed"] += 1
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(self.chance.uniform(0, 2))
        await asyncio.to_thread(self.redis.start)

    async def _pause_redis(self) -> None:
        self.tally.faults["Redis stopped and woken"] += 1
        assert self.redis.process is not None
        self.redis.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(0.5, 3))
        self.redis.process.send_signal(signal.SIGCONT)

    async def _restart_postgres(self) -> None:
        self.tally.faults["PostgreSQL started anew"] += 1
        await asyncio.to_thread(self.postgres.stop)
        await asyncio.to_thread(self.postgres.start)

    # ── the end ──

    async def _settle(self) -> None:
        await self._until(self._is_ready, within=SETTLE_SECONDS, what="everything to be ready again")
        await self._until(self._is_obeyed, within=SETTLE_SECONDS, what="each worker to obey what was written last")
        grown = self.workers[0].rss
        if self.warm_bytes and grown > self.warm_bytes * GROWTH + SLACK_BYTES:
            self.tally.broken.append(f"{self.workers[0].name} grew from {self.warm_bytes >> 20} to {grown >> 20} MiB")
        dropped = sum([await self._dropped(worker) for worker in self.workers])
        within = SETTLE_SECONDS if self.options.seconds >= 60 else 30
        deadline = time.monotonic() + within
        while (lost := await asyncio.to_thread(missing, self.tally.answered)) > dropped:
            if time.monotonic() > deadline:
                self.tally.broken.append(f"{lost} answers are in no usage; workers say that they dropped {dropped}")
                break
            await asyncio.sleep(1)
        if twice := await asyncio.to_thread(doubled):
            self.tally.broken.append(f"{twice} attempts are in the usage twice")
        if differences := await asyncio.to_thread(compared):
            self.tally.broken.append(f"Redis differs from PostgreSQL in {differences} documents")
        self._tell(grown, dropped, lost)

    async def _is_obeyed(self) -> bool:
        for worker in self.workers:
            for key in self.graves:
                if await self._ask(worker, key.token, is_noted=False) != 401:
                    return False
            for tenant in self.tenants:
                for key in tenant.keys:
                    if await self._ask(worker, key.token, is_noted=False) != 200:
                        return False
        return True

    async def _dropped(self, worker: Process) -> int:
        async with self.session.get(f"{self.url(worker)}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if 'gateway_usage_events{outcome="dropped"}' in line)

    def _tell(self, grown: int, dropped: int, lost: int) -> None:
        tally = self.tally
        print(f"callers: {dict(sorted(tally.statuses.items()))}; read to their end: {len(tally.answered):,}")
        print(f"writes: {dict(sorted(tally.writes.items()))}")
        print(f"deletions: {tally.waited_deletions} applied everywhere when they answered, ", end="")
        print(f"{tally.unwaited_deletions} not known to be; deleted keys were shown {tally.graves_visited} times")
        print(f"faults: {dict(sorted(tally.faults.items()))}")
        print(
            f"usage: {len(tally.answered) - lost:,} of {len(tally.answered):,} answers; dropped by workers: {dropped}"
        )
        print(f"memory of {self.workers[0].name}: {self.warm_bytes / 2**20:.1f} MiB when warm, {grown / 2**20:.1f} now")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")


# ── what this process does as a part of the control plane ──


def open_accounts(count: int) -> list[Tenant]:
    """Accounts with an API key each."""
    from accounts import services
    from accounts.principals import Principal
    from gateway_core import ids

    by = Principal(ids.to_text(ids.Prefix.USER, ids.new_id()))
    made = []
    for number in range(count):
        account = services.create_account(name=f"account {number}")
        made.append(Tenant(account.text_id, services.create_api_key(account=account, by=by, name="soak").token))
    return made


def forget(process: int) -> None:
    """Take the worker that was this process out of the count; Redis may be away, then so is the count."""
    from redis.exceptions import RedisError

    from snapshots.redis_client import patient_store
    from snapshots.workers import forget_worker, read_workers

    for _ in range(20):
        try:
            gone = [one.id for one in read_workers(patient_store()).reports if one.process == process]
            for worker in gone:
                forget_worker(worker, patient_store())
        except RedisError:
            time.sleep(0.5)
        else:
            return


def missing(request_ids: set[str]) -> int:
    """How many of these requests have no final attempt in the usage."""
    from django.db import close_old_connections

    from usage.models import Event

    close_old_connections()
    found = set(Event.objects.filter(is_final=True).values_list("request_id", flat=True))
    return len(request_ids - found)


def doubled() -> int:
    """How many attempts are in the usage more than once."""
    from django.db import models

    from usage.models import Event

    counted = Event.objects.values("request_id", "attempt").annotate(count=models.Count("id"))
    return counted.filter(count__gt=1).count()


def compared() -> int:
    """In how many documents Redis differs from PostgreSQL."""
    from snapshots import comparison
    from snapshots.redis_client import patient_store

    return sum(1 for _ in comparison.compare(patient_store()))


def main() -> None:
    """Start servers, soak, tell."""
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
        soak = Soak(options, home, stack.enter_context(PostgresServer()), stack.enter_context(RedisServer()))
        os.environ |= soak.environ
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        soak.tenants = open_accounts(ACCOUNTS)
        for process in soak.processes:
            stack.callback(process.end)
        asyncio.run(soak.run())
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    for promise in soak.tally.broken[:20]:
        print(f"BROKEN: {promise}")
    if soak.tally.broken:
        sys.exit(1)
    print("Every promise was kept.")


if __name__ == "__main__":
    main()
