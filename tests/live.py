"""The control plane as a process of its own, on the server that production uses, with a database of its own."""

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from tests import nursery
from tests.databases import create_database, template_database
from tests.patience import PATIENCE, stretched

ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Answer:
    """What came back over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane with two accounts, and an API key of each."""

    url: str
    token: str
    strangers_token: str
    log: Path
    # What it was started with, for other processes of the same deployment.
    environ: dict[str, str] = field(repr=False)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return urlsplit(self.url).port or 0

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        timeout: float = PATIENCE,
        **headers: str,
    ) -> Answer:
        """Send one request on a connection of its own.

        Args:
            method: any.
            path: with its query, or an absolute URI of this server.
            body: encoded as JSON, unless it is bytes.
            token: another API key; None for no Authorization at all.
            timeout: seconds.
            headers: by Python names.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent.setdefault("authorization", f"Bearer {token or self.token}")
        if body is not None:
            sent.setdefault("content-type", "application/json")
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path.removeprefix(self.url), data, sent)
            response: HTTPResponse = connection.getresponse()
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        return answer

    def exchange(self, raw: bytes, *, timeout: float = 15) -> bytes:
        """Send bytes as they are, and read until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(raw)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
            except TimeoutError:
                pass
        return received


@contextmanager
def control_plane(
    server_url: str, *, threads: int = 8, through: str | None = None, **environment: str
) -> Iterator[ControlPlane]:
    """Make a database on this PostgreSQL server and two accounts in it, and serve it until the block ends.

    Args:
        server_url: the server.
        threads: of the control plane.
        through: the URL of a pooler before the server.
        environment: more settings.
    """
    url = create_database(server_url, template=template_database(server_url))
    if through is not None:
        url = urlunsplit(urlsplit(through)._replace(path=urlsplit(url).path))
    environ = {**os.environ, "DATABASE_URL": url, "CONTROL_PLANE_THREADS": str(threads), **environment}
    alice, charlie = _open_accounts(environ, "alice", "charlie")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as written:
            process = nursery.Process(
                *("manage.py", "serve", "--port", str(port)),
                env=environ,
                stdout=written.fileno(),
                stderr=written.fileno(),
            )
        try:
            plane = ControlPlane(f"http://127.0.0.1:{port}", alice, charlie, log, environ)
            _wait_until_ready(plane, process)
            yield plane
        finally:
            process.terminate()
            try:
                process.wait(stretched(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _open_accounts(environ: dict[str, str], *names: str) -> list[str]:
    """Make accounts, all in one process; their API keys."""
    return re.findall(r"^AI_GATEWAY_API_KEY=(.+)$", _run(environ, "-m", "tests.bootstrapping", *names), re.MULTILINE)


def manage(environ: dict[str, str], *command: str) -> str:
    """Run a management command; what it printed."""
    return _run(environ, "manage.py", *command)


def _run(environ: dict[str, str], *arguments: str) -> str:
    done = nursery.run(*arguments, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait_until_ready(plane: ControlPlane, process: nursery.Process) -> None:
    began = time.monotonic()
    while time.monotonic() - began < stretched(PATIENCE):
        assert process.poll() is None, plane.log.read_text()
        try:
            if plane.request("GET", "/healthz", token=None).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(plane.log.read_text())
