"""A snapshot in Redis and a stand-in upstream, as the data plane's own tests have them; workers are real processes."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.data_plane.conftest import alice, charlie, client, environ, make_worker, upstream, worker, writer
from tests.patience import wait_until
from tests.workers import SnapshotWriter, WorkerProcess, free_port, worker_process

__all__ = ["alice", "charlie", "client", "environ", "make_worker", "start", "upstream", "worker", "writer"]


@pytest.fixture(scope="module")
def unready(sealing_private_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker process with default bounds and without Redis: it answers /healthz, which takes no key."""
    environ = {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
    }
    with worker_process(environ, tmp_path_factory.mktemp("worker"), wait=False) as process:
        port = int(process.url.rpartition(":")[2])
        wait_until(lambda: _listens(port), what="the worker listens")
        yield process


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def start(environ: dict[str, str], writer: SnapshotWriter, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker process with settings of the test's own, on a filled Redis: `start(CONNECTIONS=8)`."""
    with ExitStack() as workers:

        def begin(**settings: object) -> WorkerProcess:
            own = {name: str(value) for name, value in settings.items()}
            return workers.enter_context(worker_process(environ | own, tmp_path))

        yield begin
