"""Holds: data_plane.http.connections, gateway_admin.connections

A flood of clients without a key, of all kinds at once, costs nobody else an answer, and little memory once.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.data_plane.conftest import alice, writer
from tests.gateway_run import stand_in
from tests.live import control_plane
from tests.patience import PATIENCE, stretched
from tests.tiers import number
from tests.workers import Tenant, worker_process

__all__ = ["alice", "writer"]

pytestmark = pytest.mark.xdist_group("server")

MIB = 1024 * 1024
CROWD = number(60, full=500)
FLOODERS = number(4, full=20)
ASKED = number(20, full=200)
# Threads fill their memory pools one after another, so the second flood may still add a little. A leak adds the same to
# every flood.
MOST_FLOODS = 5
STEADY = 4 * MIB
GOOD = "sk-good-0123456789abcdefghij"


@contextmanager
def flood(port: int, path: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.hostile.flood", "--port", str(port), "--path", path]
    for kind in ("silent", "senders", "readers"):
        command += [f"--{kind}", str(CROWD)]
    command += ["--flooders", str(FLOODERS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "flooding\n"
        yield
    finally:
        process.communicate(timeout=stretched(PATIENCE))


def fetch(url: str, *, token: str | None = None, body: object = None) -> bytes:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers), timeout=PATIENCE) as answer:
        read: bytes = answer.read()
        return read


def test_a_worker_answers_its_callers_in_a_flood(
    redis_url: str, sealing_private_key: str, alice: Tenant, tmp_path: Path
):
    token = alice.routed(GOOD)
    chat = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    environ = {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": redis_url,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
    }
    with (
        stand_in() as origin,
        worker_process(environ | {"UPSTREAM_BASE_URLS": f"openai={origin}/v1"}, tmp_path) as process,
    ):

        def ask() -> None:
            assert fetch(f"{process.url}/healthz")
            assert b"choices" in fetch(f"{process.url}/v1/chat/completions", token=token, body=chat)

        check(int(process.url.rpartition(":")[2]), process.process.pid, "/v1/models", ask)


@pytest.mark.parametrize("path", ["/access-keys", pytest.param("/openapi.json", marks=pytest.mark.full)])
def test_the_control_plane_answers_its_clients_in_a_flood(path: str):
    with control_plane(os.environ["DATABASE_URL"]) as plane:

        def ask() -> None:
            assert plane.request("GET", "/healthz").status == 200
            assert plane.request("GET", "/access-keys").status == 200

        check(plane.port, listening(plane.port), path, ask)


def listening(port: int) -> int:
    """The process that listens at a port."""
    found = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}
    return found.pop() or 0


def check(port: int, process: int, path: str, ask: Callable[[], None]) -> None:
    """Others are answered in floods, nearly all within a second. Memory grows little, and stops growing."""
    memory = psutil.Process(process).memory_info
    for _ in range(ASKED):
        ask()
    before = memory().rss
    seconds: list[float] = []
    peaks: list[int] = []
    while len(peaks) < MOST_FLOODS and not (len(peaks) > 1 and peaks[-1] - peaks[-2] < STEADY):
        with flood(port, path):
            peak = 0
            for _ in range(ASKED):
                began = time.monotonic()
                ask()
                seconds.append(time.monotonic() - began)
                peak = max(peak, memory().rss)
            peaks.append(peak)
    seconds.sort()
    p99 = seconds[len(seconds) * 99 // 100]
    shown = ", ".join(f"{peak / MIB:.0f}" for peak in peaks)
    print(
        f"p50 {seconds[len(seconds) // 2]:.3f} s, p99 {p99:.3f} s; memory {before / MIB:.0f} MiB before, "
        f"{shown} MiB at most in each flood, {memory().rss / MIB:.0f} MiB after"
    )
    assert p99 < stretched(1)
    assert max(peaks) - before < 50 * MIB
    assert peaks[-1] - peaks[-2] < STEADY
