"""`make run` as a process of its own, for tests that need the whole gateway, and a stand-in upstream beside it."""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from local.embedded.server import free_port
from local.evaluation import Var
from tests import nursery
from tests.patience import PATIENCE, stretched

# What this test run gave itself is no part of a person's shell.
NOT_A_PERSONS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DOCUMENT_KEYS", "SEALING_PUBLIC_KEY", "GATEWAY_MODE")


def shell(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in NOT_A_PERSONS and "PYTEST" not in name}
    return kept | {"CONTROL_PLANE_PORT": str(free_port()), "DATA_PLANE_PORT": str(free_port())} | changes


class GatewayRun:
    """One `python -m local.run`."""

    def __init__(self, var, *, arguments=(), **environ):
        self.var = var
        self.environ = environ
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local.run", "--var", str(var), *arguments],
            env=shell(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._wait_for("Ctrl-C ends everything.")

    @property
    def tree(self):
        """The IDs of its processes now, the supervisor's first."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]

    @property
    def is_running(self):
        return self.process.poll() is None

    def _read(self):
        for line in self.process.stdout:
            self.said += line

    def _wait_for(self, text):
        began = time.monotonic()
        while text not in self.said:
            if self.process.poll() is not None or time.monotonic() - began > stretched(2 * PATIENCE):
                self.close()
                pytest.fail(f"the run did not say {text!r}, but:\n{self.said}")
            time.sleep(0.1)

    def wait_for(self, text):
        self._wait_for(text)

    @property
    def dev_env(self):
        return Var(self.var).read_dev_env()

    def get(self, plane, path, *, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.dev_env[plane]).port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def child(self, *words):
        """The process directly under the supervisor whose command line has these words."""
        found = [one for one in psutil.Process(self.process.pid).children() if set(words) <= set(one.cmdline())]
        assert len(found) == 1
        return found[0]

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(stretched(60))
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def _gateway_runs() -> Iterator[Callable[[], GatewayRun]]:
    place = Path(tempfile.mkdtemp(prefix="gateway-run-"))
    place.chmod(0o755)
    runs: list[GatewayRun] = []
    with stand_in() as upstream:

        def running() -> GatewayRun:
            if not runs or not runs[-1].is_running:
                urls = f"openai={upstream}/v1,anthropic={upstream}/v1"
                runs.append(GatewayRun(place / "var", UPSTREAM_BASE_URLS=urls, CATALOG_REFRESH="false"))
            return runs[-1]

        yield running
        for run in runs:
            run.close()
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def whole_gateway(_gateway_runs: Callable[[], GatewayRun]) -> GatewayRun:
    """A run with the servers of its own and a stand-in upstream, shared by the modules of the group "run".

    A start takes 15 seconds of processor time. A module that ends it makes the next one start it again, on the same
    data.
    """
    return _gateway_runs()


@contextmanager
def stand_in() -> Iterator[str]:
    """A stand-in upstream as a process of its own; its origin."""
    port = free_port()
    ours, its = os.pipe()
    with os.fdopen(ours) as said:
        process = nursery.Process("-m", "local.stand_in", "--port", str(port), env=os.environ, stdout=its)
        os.close(its)
        try:
            assert "stand-in upstream" in said.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(stretched(PATIENCE))
