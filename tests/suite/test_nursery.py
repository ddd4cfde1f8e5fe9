"""Holds: tests.nursery

A process that the nursery forks is like one that was started: environment, files, exit status, signals.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import nursery
from tests.patience import PATIENCE, stretched


@pytest.fixture
def script(tmp_path):
    """Write a script, and return its path."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def test_it_has_the_given_environment_and_no_other(script):
    shows = script("import json, os, sys; print(json.dumps([dict(os.environ), sys.argv, __name__]))")

    done = nursery.run(shows, "a", "b", env={"ONLY": "this"})

    assert json.loads(done.stdout) == [{"ONLY": "this"}, [shows, "a", "b"], "__main__"]


@pytest.mark.parametrize(
    ("text", "status"),
    [("", 0), ("raise SystemExit(3)", 3), ("raise ValueError('x')", 1), ("import os; os.abort()", -signal.SIGABRT)],
)
def test_its_exit_status_is_that_of_an_interpreter(script, text, status):
    path = script(text)

    done = nursery.run(path, env={})

    assert done.returncode == status
    assert done.returncode == subprocess.run([sys.executable, path], stderr=subprocess.DEVNULL, check=False).returncode
    assert ("ValueError: x" in done.stderr) == (status == 1)


def test_it_reads_what_it_is_given_and_runs_what_was_left_for_its_end(script):
    path = script("import atexit, sys; atexit.register(print, 'ended'); print(sys.stdin.read())")

    assert nursery.run(path, env={}, stdin=b"given").stdout == "given\nended\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_and_leaves_no_process(script, number):
    ours, its = os.pipe()
    waits = script("import time; print('waits', flush=True); time.sleep(600)")
    with os.fdopen(ours) as said, Path(os.devnull).open("w") as nowhere:
        process = nursery.Process(waits, env={}, stdout=its, stderr=nowhere.fileno())
        os.close(its)
        assert said.readline() == "waits\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)

        process.send_signal(number)

        assert process.wait(stretched(PATIENCE)) == -number
    assert not psutil.pid_exists(process.pid)


def test_what_is_forked_at_once_is_told_apart(script):
    path = script("import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))")

    started = [nursery.Process(path, str(0.02 * (5 - number)), str(number), env={}) for number in range(5)]

    assert [process.wait() for process in started] == [0, 1, 2, 3, 4]
    assert len({process.pid for process in started}) == 5
