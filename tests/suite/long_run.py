"""A run to interrupt, started by test_interruption.py. It starts one process of each kind, says which, and waits."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests import nursery
from tests.workers import free_port

# The worker's own Redis, the test's, the program in the middle and its child, the one with a pipe, the nursery and its
# child.
FEWEST = 7


@pytest.mark.parametrize("number", range(int(os.environ["WORKERS"])))
def test_with_servers_and_children_of_children(number, redis_server, postgres_server, tmp_path):
    """Once on each worker of the run; the first one has a PostgreSQL as well."""
    redis_server()
    if number == 0:
        postgres_server()
    # A child of a child that neither looks at its parent nor listens to a request.
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    middle = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {deaf!r}]); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", middle], start_new_session=True)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE)
    nursery.Process("-m", "local.stand_in", "--port", str(free_port()), env=os.environ)
    (tmp_path / "made").write_text("")
    while len(processes := psutil.Process().children(recursive=True)) < FEWEST:
        time.sleep(0.1)
    partial = Path(os.environ["SAYS"]) / f".{number}"
    started = [*processes, psutil.Process(), *psutil.Process().parents()[:2]]
    partial.write_text("\n".join([tempfile.gettempdir(), *(str(one.pid) for one in started)]))
    partial.rename(partial.with_name(str(number)))
    time.sleep(600)
