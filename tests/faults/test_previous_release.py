"""Holds: data_plane, gateway_core.snapshot

The worker of the newest release serves with today's control plane, as during every upgrade.

Its code comes out of this repository's history, by the commit that CHANGELOG.md names under the release. The promise
stands in docs/releasing.md.
"""

import http.client
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.gateway_run import GatewayRun
from tests.workers import ROOT, WorkerProcess, worker_process

pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.faults]

RELEASED = re.compile(r"^## [0-9.]+ - [0-9-]+\n\nCommit ([0-9a-f]{40})\.$", re.MULTILINE)
SECRETS = ("DOCUMENT_KEYS", "SEALING_PRIVATE_KEYS")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the code of the newest release."""
    found = RELEASED.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert found is not None, "CHANGELOG.md names no commit under its newest release"
    archive = subprocess.run(["git", "archive", found[1]], cwd=ROOT, capture_output=True, check=False)
    assert archive.returncode == 0, f"this clone lacks the released commit (git fetch --unshallow): {archive.stderr!r}"
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def released_worker(
    whole_gateway: GatewayRun, released: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """That release's worker on the Redis of today's control plane."""
    secrets = {name: (whole_gateway.var / "secrets" / name).read_text().strip() for name in SECRETS}
    environ = {name: whole_gateway.dev_env[name] for name in ("REDIS_URL", "GATEWAY_MODE")}
    upstream = {"UPSTREAM_BASE_URLS": whole_gateway.environ["UPSTREAM_BASE_URLS"]}
    home = tmp_path_factory.mktemp("released-worker")
    with worker_process({**environ, **secrets, **upstream}, home, code=released) as running:
        yield running


def test_its_code_is_what_runs(released_worker: WorkerProcess, released: Path) -> None:
    assert psutil.Process(released_worker.process.pid).cwd() == str(released)
    assert released != ROOT


def test_it_serves_what_is_made_now_and_refuses_what_is_deleted_now(
    whole_gateway: GatewayRun, released_worker: WorkerProcess
) -> None:
    # A strategy that it does not know yet: it takes the keys in order.
    key = {"name": "own", "value": "sk-own-0123456789abcdefghijkl", "weight": 7}
    step = {"type": "user", "keys": [key], "keySelectionStrategy": "weighted"}
    rules = [{"provider": "openai", "steps": [step]}]
    _, configuration = _api(
        whole_gateway,
        "POST",
        "/access-key-configurations",
        {"name": "both releases", "access": {"models": {"allow": ["openai:gpt-4o"]}}, "router": {"rules": rules}},
    )
    _, access_key = _api(
        whole_gateway, "POST", "/access-keys", {"accessKeyConfigurationId": configuration["id"]}, prefer="wait=10"
    )

    allowed, other = (_chat(released_worker, access_key["token"], model) for model in ("gpt-4o", "o1-pro"))
    applied, _ = _api(whole_gateway, "DELETE", f"/access-keys/{access_key['id']}", prefer="wait=10")
    deleted = _chat(released_worker, access_key["token"], "gpt-4o")

    assert allowed == 200
    assert 400 <= other < 500
    # Other modules may have killed workers of this gateway, which stay in the count.
    assert applied.startswith("2/")
    assert deleted == 401


def test_it_does_not_ask_a_provider_whose_key_it_would_show_in_another_header(
    whole_gateway: GatewayRun, released_worker: WorkerProcess
) -> None:
    upstream = dict(pair.split("=", 1) for pair in whole_gateway.environ["UPSTREAM_BASE_URLS"].split(","))["openai"]
    fields = {"providerId": "deviating", "name": "deviating", "baseUrl": upstream, "auth": {"header": "api-key"}}
    _, provider = _api(whole_gateway, "POST", "/providers", fields)
    secret = "sk-deviating-0123456789abcdefghijkl"
    rules = [{"provider": "deviating", "steps": [{"type": "user", "keys": [{"name": "own", "value": secret}]}]}]
    body = {"name": "deviating", "router": {"rules": rules}}
    _, configuration = _api(whole_gateway, "POST", "/access-key-configurations", body)
    _, access_key = _api(
        whole_gateway, "POST", "/access-keys", {"accessKeyConfigurationId": configuration["id"]}, prefer="wait=10"
    )

    refused = _chat(released_worker, access_key["token"], "deviating:m")
    _api(whole_gateway, "PATCH", f"/providers/{provider['id']}", {"auth": None}, prefer="wait=10")
    served = _chat(released_worker, access_key["token"], "deviating:m")

    assert (refused, served) == (503, 200)


def _api(
    run: GatewayRun, method: str, path: str, body: object = None, *, prefer: str = ""
) -> tuple[str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(run.dev_env["CONTROL_PLANE_URL"]).port or 0)
    headers = {"Authorization": f"Bearer {run.dev_env['AI_GATEWAY_API_KEY']}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers | {"Prefer": prefer})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, text
    return answer.getheader("Gateway-Snapshot-Applied", ""), json.loads(text or b"{}")


def _chat(worker: WorkerProcess, token: str, model: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(worker.url).port or 0)
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()
