"""Holds: snapshots.rebuild, snapshots.signing, local.stand_in

What operators do to a deployment that serves: rotate its keys, restore its database, move its Redis, upgrade it.

Each by the commands of docs/operations.md, run as processes, with callers who go on asking real workers. No valid
request may be refused. This process plays the control plane, with the settings of a process that was started anew.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from django.conf import LazySettings
from django.db import connection
from redis import Redis

from accounts.models import Account
from gateway_core import envelopes, sealing, snapshot
from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from local.embedded.postgres import find_installation
from snapshots import document_kinds, rebuild
from snapshots.models import Publication
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store
from tests.fixtures import Api, open_account
from tests.gateway_run import stand_in
from tests.patience import wait_until
from tests.servers import FaultyRedis
from tests.snapshots.rows import differences
from tests.workers import ROOT, WorkerProcess, worker_process
from usage.ingest import Ingest

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

VALUE = "sk-good-0123456789abcdefghij"
CHAT = json.dumps({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]})
NAMES = ("GATEWAY_MODE", "REDIS_URL", "DOCUMENT_KEYS", "SEALING_PRIVATE_KEYS", "SEALING_PUBLIC_KEY", "SECRET_KEY")


class Deployment:
    """Workers, an account with an app, and what an operator types."""

    def __init__(self, environ: dict[str, str], home: Path, settings: LazySettings, stack: ExitStack) -> None:
        self.environ = environ
        self._home = home
        self._settings = settings
        self._stack = stack
        self._worker: WorkerProcess | None = None
        self.account, _, self.api = open_account("Alice's")
        self.statuses: Counter[int] = Counter()
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._callers: list[threading.Thread] = []

    # ── the operator ──

    def run(self, script: str, *, status: int = 0, **changes: str) -> str:
        """Commands as they stand in the document, `python` being ours; what they wrote."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{script}"],
            cwd=ROOT,
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **self.environ, **changes},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stderr + done.stdout
        assert VALUE not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def restart(self, **changes: str) -> None:
        """Every process gets other settings: a new worker is started and ready before the one before it ends."""
        self.environ.update(changes)
        self._settings.DOCUMENT_KEYS = DocumentKeys.parse(self.environ["DOCUMENT_KEYS"])
        self._settings.SEALING_KEY = SealingKey.parse(self.environ["SEALING_PUBLIC_KEY"])
        self._settings.REDIS_URL = self.environ["REDIS_URL"]
        forget_stores()
        self.restart_worker()

    def restart_worker(self) -> None:
        """The new one is ready before the one before it is asked to end."""
        new = self._stack.enter_context(worker_process(self.environ, self._home))
        with self._lock:
            old, self._worker = self._worker, new
        if old is not None:
            # What a load balancer does for a server that it has taken out.
            time.sleep(0.5)
            assert old.stop() == 0

    # ── the callers ──

    def issue(self, api: Api | None = None, **fields: Any) -> tuple[str, str]:
        """A new access key of an app, with its account's own provider key; its token and ID."""
        made = (api or self.api).post("/access-keys", fields).json()
        return made["token"], made["id"]

    def newcomer(self) -> str:
        """The token of an account that no worker has seen."""
        _, _, api = open_account("a newcomer's")
        api.post("/provider-keys", {"providerId": "openai", "name": "k", "value": VALUE})
        return self.issue(api)[0]

    def ask(self, token: str) -> int:
        """One request to the worker that serves now."""
        with self._lock:
            assert self._worker is not None
            client = http.client.HTTPConnection(self._worker.url.removeprefix("http://"), timeout=30)
            client.connect()
        try:
            client.request("POST", "/v1/chat/completions", CHAT, {"Authorization": f"Bearer {token}"})
            answer = client.getresponse()
            answer.read()
            return answer.status
        finally:
            client.close()

    def ask_on(self, *tokens: str) -> None:
        """Callers who ask again and again, until `end`."""

        def run(token: str) -> None:
            while not self._is_over.is_set():
                try:
                    status = self.ask(token)
                except (OSError, http.client.HTTPException):
                    status = 0
                self.statuses[status] += 1
                time.sleep(0.05)

        self._callers += [threading.Thread(target=run, args=[token]) for token in tokens]
        for caller in self._callers[-len(tokens) :]:
            caller.start()

    def end(self) -> dict[int, int]:
        """Stop the callers; how often each status came. 0: no answer."""
        self._is_over.set()
        for caller in self._callers:
            caller.join()
        return dict(self.statuses)


def forget_stores() -> None:
    """As a process that was started anew."""
    pause.end()
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


@pytest.fixture
def deployment(
    redis_server: Callable[..., FaultyRedis],
    sealing_private_key: str,
    tmp_path: Path,
    settings: LazySettings,
) -> Iterator[Deployment]:
    """One worker that serves an account with a provider key; nobody asks yet."""
    database: dict[str, Any] = connection.settings_dict
    url = (
        f"postgresql://{database['USER']}:{quote(database['PASSWORD'])}"
        f"@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    with ExitStack() as stack, stand_in() as upstream:
        environ = {name: os.environ[name] for name in NAMES if name in os.environ} | {
            "DATABASE_URL": url,
            "REDIS_URL": redis_server().url,
            "SEALING_PRIVATE_KEYS": sealing_private_key,
            "UPSTREAM_BASE_URLS": f"openai={upstream}/v1",
            "DATABASE_POOL_SIZE": "4",
        }
        settings.REDIS_URL = environ["REDIS_URL"]
        forget_stores()
        made = Deployment(environ, tmp_path, settings, stack)
        rebuild.rebuild(patient_store())
        made.api.post("/provider-keys", {"providerId": "openai", "name": "k", "value": VALUE})
        try:
            made.restart_worker()
            yield made
        finally:
            made.end()
            forget_stores()


def test_both_sorts_of_keys_are_rotated_under_callers_and_none_is_refused(deployment: Deployment) -> None:
    new_private, new_document = sealing.generate_private_key(), envelopes.generate_document_key()
    old_private, old_document = (deployment.environ[name] for name in ("SEALING_PRIVATE_KEYS", "DOCUMENT_KEYS"))
    unseen = [deployment.newcomer() for _ in range(3)]
    deployment.ask_on(deployment.issue()[0], deployment.issue()[0])

    # Everybody accepts the new ones.
    deployment.restart(
        SEALING_PRIVATE_KEYS=f"{old_private},{new_private}", DOCUMENT_KEYS=f"{old_document},{new_document}"
    )
    # Everybody uses the new ones.
    deployment.restart(
        SEALING_PUBLIC_KEY=sealing.public_key_of(new_private), DOCUMENT_KEYS=f"{new_document},{old_document}"
    )
    deployment.run("python manage.py export_sealed | python -m data_plane reseal | python manage.py import_sealed")
    deployment.run("python manage.py export_sealed --check")
    deployment.run("python manage.py sign_documents")
    assert deployment.ask(unseen[0]) == 200
    Ingest(patient_store().redis).run(seconds=10)
    deployment.run("python manage.py sign_documents --check")
    # Nobody has the old ones.
    deployment.restart(SEALING_PRIVATE_KEYS=new_private, DOCUMENT_KEYS=new_document)

    assert [deployment.ask(token) for token in (*unseen, deployment.newcomer())] == [200] * 4
    assert set(deployment.end()) == {200}
    assert differences() == []


def test_a_database_restored_from_a_backup_refuses_nobody_and_brings_no_revoked_key_back(
    deployment: Deployment, tmp_path: Path
) -> None:
    backup, binaries = tmp_path / "backup.dump", find_installation() / "bin"
    kept, (deleted, deleted_id), (disabled, disabled_id) = (deployment.issue() for _ in range(3))
    deployment.ask_on(kept[0], kept[0])
    deployment.run(f'{binaries}/pg_dump --format custom --no-owner --file {backup} "$DATABASE_URL"')
    created, _ = deployment.issue()
    assert deployment.ask(created) == deployment.ask(disabled) == 200
    deployment.api.delete(f"/access-keys/{deleted_id}")
    deployment.api.patch(f"/access-keys/{disabled_id}", {"disabled": True})
    wait_until(lambda: {deployment.ask(deleted), deployment.ask(disabled)} == {401}, what="the revocation")
    versions = dict(Publication.objects.values_list("account_id", "version"))
    connection.close()

    restore = f'{binaries}/pg_restore --clean --if-exists --no-owner --single-transaction --dbname "$DATABASE_URL"'
    deployment.run(f"{restore} {backup}")
    refused = [deployment.ask(token) for token in (deleted, disabled)]
    listed = deployment.run("python manage.py after_restore", status=1)
    deployment.run("python manage.py after_restore --apply")

    assert deleted_id in listed
    assert disabled_id in listed
    assert kept[1] not in listed
    wait_until(lambda: deployment.ask(created) == 401, what="a key that no longer exists to be unknown")
    assert refused == [deployment.ask(token) for token in (deleted, disabled)] == [401, 401]
    account = deployment.account.id
    assert Publication.objects.get(account_id=account).version > versions[account]
    fresh, _ = deployment.issue()
    wait_until(lambda: deployment.ask(fresh) == 200, what="a write after the restore")
    assert set(deployment.end()) == {200}
    assert differences() == []


def test_redis_moves_to_another_server_and_no_caller_is_refused(
    deployment: Deployment, redis_server: Callable[..., FaultyRedis]
) -> None:
    unseen = deployment.newcomer()
    token, identity = deployment.issue()
    deployment.ask_on(token, token)
    wait_until(lambda: deployment.statuses[200] > 20, what="the callers")
    old, new = deployment.environ["REDIS_URL"], redis_server().url

    deployment.run("python manage.py rebuild_snapshots", REDIS_URL=new)
    deployment.restart(REDIS_URL=new)
    deployment.run("python manage.py ingest_usage", REDIS_URL=old)

    with Redis.from_url(old) as left:
        assert left.xlen(keys().usage) == 0
    assert [deployment.ask(each) for each in (unseen, deployment.newcomer(), token)] == [200] * 3
    asked = deployment.end()
    assert set(asked) == {200}
    deployment.restart_worker()  # its usage is sent by the time that it has ended
    Ingest(patient_store().redis).run(seconds=10)
    listed = deployment.api.get("/usage/overview?startTime=2020-01-01T00:00:00Z&groupBy=accessKey").json()
    assert {one["groupKey"]: one["requests"] for one in listed["buckets"]}[identity] == asked[200] + 1


class NewerConfiguration(snapshot.ConfigurationDocument, frozen=True):
    """Of the next release: it knows of regions."""

    region: str = "eu"


class NewerToken(snapshot.TokenDocument, frozen=True):
    """Of the next release: it knows of owners."""

    owner: str = "somebody"


@pytest.fixture
def upgrade() -> Iterator[Callable[..., None]]:
    """The control plane of the next release publishes documents of a kind: `upgrade("token", NewerToken)`."""
    kept = {kind.name: kind for kind in document_kinds.kinds()}

    def begin(name: str, newer: Callable[..., msgspec.Struct], must_understand: tuple[str, ...] = ()) -> None:
        kind = kept[name]

        def documents(account: Account, names: Collection[str]) -> Any:
            found = kind.documents(account, names)
            return {
                each: document and newer(**msgspec.structs.asdict(document) | {"must_understand": must_understand})
                for each, document in found.items()
            }

        document_kinds.provide(name, documents=documents, all_documents=kind.all_documents)

    yield begin
    for kind in kept.values():
        document_kinds.port_of(kind.name).provide(kind)


def test_workers_of_the_release_before_serve_what_they_understand_and_nothing_that_they_must_and_do_not(
    deployment: Deployment, upgrade: Callable[..., None]
) -> None:
    plain, _ = deployment.issue()
    configurations = [
        deployment.api.post("/access-key-configurations", {"name": name, "router": ROUTER}).json()["id"]
        for name in ("as before", "of regions")
    ]
    before, of_regions = (deployment.issue(accessKeyConfigurationId=each)[0] for each in configurations)
    deployment.ask_on(plain, before)
    assert deployment.ask(of_regions) in {200, 400}

    # Fields that may be ignored are.
    upgrade("token", NewerToken)
    upgrade("configuration", NewerConfiguration)
    deployment.api.patch(f"/access-key-configurations/{configurations[0]}", {"name": "with a region"})
    fresh, _ = deployment.issue(accessKeyConfigurationId=configurations[0])
    wait_until(lambda: deployment.ask(fresh) == 200, what="the newer token")
    # Fields that must be understood take their object out of service, and nothing beside it.
    upgrade("configuration", NewerConfiguration, ("region",))
    deployment.api.patch(f"/access-key-configurations/{configurations[1]}", {"name": "only in this region"})
    wait_until(lambda: deployment.ask(of_regions) == 503, what="the configuration out of service")
    upgrade("token", NewerToken, ("owner",))
    owned, _ = deployment.issue()

    assert deployment.ask(owned) == 503
    assert deployment.ask(of_regions) == 503
    assert deployment.ask(fresh) == 200
    assert set(deployment.end()) == {200}


ROUTER = {
    "rules": [
        {"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "own", "value": VALUE}]}]},
    ]
}
