"""What tests of the data plane need: a writer of snapshots in the control plane's place, workers in this process and as
processes of their own, and a plain HTTP client that sees everything.

The writer uses the publisher's own Lua script, so that what a worker reads here is what it reads in earnest.
"""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import uvicorn
from multidict import CIMultiDictProxy
from redis import Redis

from data_plane.http.connections import Gate
from data_plane.http.protocol import CallerProtocol
from data_plane.http.server import Worker
from data_plane.settings import WorkerSettings, load
from gateway_core import ids, snapshot, tokens
from gateway_core.catalog import Model, ModelsDocument, Surface
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.redaction import mask
from gateway_core.sealing import Binding, SealingKey, managed_binding
from gateway_core.snapshot import (
    CATALOG,
    ChangeDocument,
    ConfigurationDocument,
    Keys,
    ManagedKeysDocument,
    ProviderDocument,
    ProviderKeyDocument,
    SettingsDocument,
    SurfaceSupport,
    TokenDocument,
    VersionDocument,
)
from gateway_core.usage_events import BATCH_FIELD, UsageEvent, open_batch
from tests import nursery
from tests.patience import PATIENCE, eventually, stretched

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPT: Final = (ROOT / "snapshots/scripts/publish.lua").read_text()
MODELS: Final = ModelsDocument(
    providers={
        "openai": (Model(id="gpt-4o", input_price="2.5", output_price="10"), Model(id="gpt-4o-mini", input_price="1")),
        "anthropic": (Model(id="claude-sonnet-4-5", input_price="3", output_price="15"),),
    }
)


def new_id(prefix: ids.Prefix) -> str:
    """A new ID in its text form."""
    return ids.to_text(prefix, ids.new_id())


class Tenant:
    """An account of a test: what was published of it, and ways to publish more."""

    def __init__(self, writer: "SnapshotWriter") -> None:
        self.writer = writer
        self.id = new_id(ids.Prefix.ACCOUNT)

    def publish(self, documents: Mapping[str, msgspec.Struct | None], **options: Any) -> int:
        """One publication; returns its number."""
        return self.writer.publish(self.id, documents, **options)

    def token(self, *, configuration: str | None = None, publish: bool = True, **fields: Any) -> str:
        """A new access token, live."""
        token = tokens.generate(tokens.ACCESS_KEY_PREFIX)
        if publish:
            self.publish({name_of(token): self.token_document(configuration=configuration, **fields)})
        return token

    def token_document(self, *, configuration: str | None = None, **fields: Any) -> TokenDocument:
        """What a token's document says."""
        return TokenDocument(
            account=self.id, access_key=new_id(ids.Prefix.ACCESS_KEY), configuration=configuration, **fields
        )

    def delete_token(self, token: str) -> int:
        """Delete an access key."""
        return self.publish({name_of(token): None})

    def key_document(self, key: str, value: str, provider: str = "openai") -> ProviderKeyDocument:
        """A provider key's document."""
        blob = self.writer.sealing_key.seal(value, Binding(self.id, provider, key))
        return ProviderKeyDocument(provider=provider, mask=mask(value), sealed=blob)

    def keys(self, *values: str, provider: str = "openai") -> list[str]:
        """Stored provider keys; returns their IDs in the order given."""
        made = {new_id(ids.Prefix.PROVIDER_KEY): value for value in values}
        self.publish(
            {
                snapshot.provider_key_document(key): self.key_document(key, value, provider)
                for key, value in made.items()
            }
        )
        return list(made)

    def rotate(self, key: str, value: str, provider: str = "openai") -> int:
        """A new value under the same ID."""
        return self.publish({snapshot.provider_key_document(key): self.key_document(key, value, provider)})

    def configuration(self, *rules: snapshot.Rule, scope: snapshot.Scope | None = None) -> str:
        """A stored configuration."""
        configuration = new_id(ids.Prefix.CONFIGURATION)
        document = ConfigurationDocument(scope=scope or snapshot.Scope(), rules=rules)
        self.publish({snapshot.configuration_document(configuration): document})
        return configuration

    def routed(self, *values: str, provider: str = "openai") -> str:
        """A token whose configuration tries these provider keys in this order."""
        step = snapshot.Step(type="user", keys=tuple(self.keys(*values, provider=provider)))
        return self.token(configuration=self.configuration(snapshot.Rule(provider=provider, steps=(step,))))

    def provider(
        self, slug: str, base_url: str, *surfaces: SurfaceSupport, models: tuple[str, ...] = (), **fields: Any
    ) -> None:
        """A custom provider; the fields are those of its document."""
        served = surfaces or (SurfaceSupport(Surface.CHAT_COMPLETIONS), SurfaceSupport(Surface.MESSAGES))
        document = ProviderDocument(
            id=new_id(ids.Prefix.PROVIDER), name=slug, base_url=base_url, surfaces=served, models=models, **fields
        )
        self.publish({snapshot.provider_document(slug): document})

    def settings(self, **fields: Any) -> int:
        """The account's gateway configuration."""
        return self.publish({snapshot.SETTINGS_DOCUMENT: SettingsDocument(**fields)})

    def envelope(self, name: str, document: msgspec.Struct, *, version: int | None = None) -> bytes:
        """An authentic envelope of a document at its place, not published."""
        return self.writer.sign(self.id, name, document, version or self.writer.next_version())


class SnapshotWriter:
    """Writes snapshots as the control plane does."""

    def __init__(self, redis: Redis, keys: Keys, document_keys: DocumentKeys, sealing_key: SealingKey) -> None:
        # redis-py types each answer as every one that any of its clients could give.
        self.redis: Any = redis
        self.names = keys
        self.document_keys = document_keys
        self.sealing_key = sealing_key
        self.epoch = ""
        self._versions: dict[str, int] = {}
        self._last_version = 0
        self._publish = redis.register_script(SCRIPT)

    def begin_epoch(self, *, number: int | None = None, is_complete: bool = True) -> None:
        """A new life of Redis, its documents left as they are."""
        self.epoch = str(ids.new_id())
        found = number if number is not None else int(self.redis.hget(self.names.epoch, "number") or 0)
        self.redis.hset(self.names.epoch, mapping={"id": self.epoch, "complete": int(is_complete), "number": found})

    def complete_epoch(self) -> None:
        """The rebuild has ended."""
        self.redis.hset(self.names.epoch, "complete", 1)

    def next_version(self) -> int:
        """Higher than every one before."""
        self._last_version = max(self._last_version + 1, time.time_ns() // 1000)
        return self._last_version

    def tenant(self) -> Tenant:
        """A new account, with settings."""
        tenant = Tenant(self)
        tenant.settings()
        return tenant

    def catalog(self, models: ModelsDocument = MODELS) -> int:
        """Publish the catalog; its place in the change stream."""
        return self.publish(CATALOG, {snapshot.MODELS_DOCUMENT: models})

    def managed(self, models: ModelsDocument = MODELS, **values: str) -> int:
        """Publish the catalog with keys of the operator's own, by provider ID."""
        sealed = {one: self.sealing_key.seal(value, managed_binding(one)) for one, value in values.items()}
        documents = {
            snapshot.MODELS_DOCUMENT: models,
            snapshot.MANAGED_DOCUMENT: ManagedKeysDocument(keys=sealed),
        }
        return self.publish(CATALOG, documents)

    def usage(self) -> list[UsageEvent]:
        """What workers have told of their attempts and nobody has taken yet, in the order of the attempts."""
        told = [
            event
            for _, fields in self.redis.xrange(self.names.usage)
            for event in open_batch(self.names, self.document_keys, fields[BATCH_FIELD.encode()]).events
        ]
        return sorted(told, key=lambda event: (event.time, event.attempt))

    async def usage_of(self, count: int) -> list[UsageEvent]:
        """The first so many events, once they are there; and no more than those."""
        await eventually(lambda: len(self.usage()) >= count)
        told = self.usage()
        assert len(told) == count
        return told

    def sign(self, account: str, name: str, document: msgspec.Struct, version: int) -> bytes:
        """An authentic envelope for a place."""
        location = self.names.location(account, name)
        return self.document_keys.sign(Purpose.DOCUMENT, location, version, snapshot.encode(document))

    def publish(
        self,
        account: str,
        documents: Mapping[str, msgspec.Struct | bytes | None],
        *,
        is_partial: bool = False,
        version: int | None = None,
    ) -> int:
        """One publication by the publisher's script. Bytes are taken for envelopes as they are."""
        version = version or self.next_version()
        envelopes = {
            name: document
            if document is None or isinstance(document, bytes)
            else self.sign(account, name, document, version)
            for name, document in documents.items()
        }
        change = ChangeDocument(documents={} if is_partial else envelopes, is_partial=is_partial)
        fields = {name: one for name, one in envelopes.items() if not name.startswith("token:")}
        shown = {name: one for name, one in envelopes.items() if name.startswith("token:")}
        to_set = [part for name, one in fields.items() if one is not None for part in (name, one)]
        to_delete = [name for name, one in fields.items() if one is None]
        written = {name: one for name, one in shown.items() if one is not None}
        known = self._versions.get(account)
        answer = self._publish(
            keys=[
                self.names.epoch,
                self.names.changes,
                self.names.catalog if account == CATALOG else self.names.account(account),
                *(self.names.prefix + name for name in written),
                *(self.names.prefix + name for name in shown if name not in written),
            ],
            args=[
                self.epoch,
                f"{known:016}" if known else "",
                self.sign(account, snapshot.VERSION_DOCUMENT, VersionDocument(), version),
                account,
                self.document_keys.sign(Purpose.CHANGE, self.names.change(account), version, snapshot.encode(change)),
                10_000,
                len(to_set) // 2,
                *to_set,
                len(to_delete),
                *to_delete,
                len(written),
                *written.values(),
            ],
        )
        assert answer[0] == b"published", answer
        self._versions[account] = version
        return int(answer[1])

    def add_entry(self, account: str, change: bytes) -> int:
        """An entry of the change stream by somebody who can write Redis, numbered as the next."""
        number = int(self.redis.hincrby(self.names.epoch, "number", 1))
        self.redis.xadd(self.names.changes, {"account": account, "change": change}, id=f"{number}-0")
        return number


def name_of(token: str) -> str:
    """The document name of a token."""
    return snapshot.token_document(tokens.digest(token))


class Answer(NamedTuple):
    """What came back over the wire."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's slug, in OpenAI's form."""
        return str(self.json()["error"]["code"])


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream, each with its name and its JSON; `[DONE]` as text."""
    events = []
    for block in body.decode().split("\n\n"):
        if not block:
            continue
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        data = fields["data"]
        events.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return events


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """An upstream that answers each connection with these bytes and ends it; its URL."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


class Client:
    """Requests to a worker."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def request(self, method: str, path: str, token: str | None = None, **options: Any) -> Answer:
        """Any request."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers.setdefault("authorization", f"Bearer {token}")
        if isinstance(options.get("data"), bytes):
            options["data"] = io.BytesIO(options["data"])
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, token: str | None = None, **options: Any) -> Answer:
        """GET."""
        return await self.request("GET", path, token, **options)

    async def chat(self, token: str | None, model: Any = "openai:gpt-4o", **members: Any) -> Answer:
        """A chat completion; `raw` and `headers` are no members of the body."""
        headers = members.pop("headers", {})
        raw = members.pop("raw", None)
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | members
        return await self.request(
            "POST", "/v1/chat/completions", token, headers=headers, data=raw or msgspec.json.encode(body)
        )

    async def message(self, token: str | None, model: str = "anthropic:claude-sonnet-4-5", **members: Any) -> Answer:
        """A message of the Anthropic API."""
        headers = members.pop("headers", {})
        body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]} | members
        return await self.request("POST", "/v1/messages", token, headers=headers, data=msgspec.json.encode(body))

    async def status(self, token: str, **members: Any) -> int:
        """The status of a chat completion."""
        return (await self.chat(token, **members)).status

    async def readiness(self) -> Any:
        """What /readyz says."""
        return (await self.get("/readyz")).json()


@asynccontextmanager
async def serving(app: Any, gate: Gate) -> AsyncIterator[str]:
    """An ASGI application on the protocol of production, in this process; its URL. Without uvicorn's own slow end."""
    config = uvicorn.Config(
        app, http=CallerProtocol, loop="none", ws="none", lifespan="off", access_log=False, log_config=None
    )
    config.load()
    state = uvicorn.Server(config).server_state
    protocol: Any = config.http_protocol_class
    listening = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}, gate=gate), "127.0.0.1", 0
    )
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)


class Running(NamedTuple):
    """A worker in this process, served, and a client of it."""

    worker: Worker
    client: Client

    @property
    def store(self) -> Any:
        """What it holds."""
        return self.worker.follower.store

    async def reaches(self, number: int) -> None:
        """Wait until it has passed a publication."""
        await eventually(lambda: self.store.position >= number)


@asynccontextmanager
async def running(settings: WorkerSettings, *, in_sync: bool = True) -> AsyncIterator[Running]:
    """A worker in this process, in sync unless that is not waited for."""
    async with (
        Worker.running(settings) as worker,
        serving(worker.app, worker.gate) as url,
        aiohttp.ClientSession() as session,
    ):
        if in_sync:
            await eventually(lambda: worker.follower.is_in_sync)
        yield Running(worker, Client(session, url))


def settings_of(environ: Mapping[str, str], **changes: Any) -> WorkerSettings:
    """Settings as `serve` reads them, some of them changed."""
    return msgspec.structs.replace(load(environ), **changes)


class WorkerProcess(NamedTuple):
    """`python -m data_plane serve`, running."""

    process: "nursery.Process | subprocess.Popen[bytes]"
    url: str
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within: float = PATIENCE) -> int:
        """End it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(stretched(within))


@contextmanager
def worker_process(
    environ: Mapping[str, str], home: Path, *, wait: bool = True, code: Path | None = None
) -> Iterator[WorkerProcess]:
    """A worker as a process of its own, ready.

    Args:
        environ: its environment, beside PATH and its port.
        home: where its log goes.
        wait: until it is ready.
        code: the tree whose code it runs, from a cold start. Without one it is this tree's, forked by the nursery.
    """
    port = free_port()
    log = home / f"worker-{port}.log"
    command = ("-m", "data_plane", "serve")
    env = {"PATH": os.environ["PATH"], **environ, "DATA_PLANE_PORT": str(port)}
    process: nursery.Process | subprocess.Popen[bytes]
    with log.open("wb") as output:
        if code is None:
            process = nursery.Process(*command, env=env, stdout=output.fileno(), stderr=output.fileno())
        else:
            process = subprocess.Popen([sys.executable, *command], cwd=code, env=env, stdout=output, stderr=output)
    running = WorkerProcess(process, f"http://127.0.0.1:{port}", log)
    try:
        if wait:
            _await_ready(running)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(stretched(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(running: WorkerProcess) -> None:
    from http.client import HTTPConnection

    began = time.monotonic()
    while True:
        connection = HTTPConnection("127.0.0.1", int(running.url.rpartition(":")[2]), timeout=2)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        assert running.process.poll() is None, running.log.read_text()
        assert time.monotonic() - began < stretched(PATIENCE), running.log.read_text()
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
