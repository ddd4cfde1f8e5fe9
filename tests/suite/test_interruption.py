"""Holds: tests.keeper

A run that is interrupted leaves no process and no file behind.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import tiers
from tests.patience import PATIENCE, stretched, wait_until
from tests.workers import ROOT

LONG_RUN = "tests/suite/long_run.py"


@pytest.fixture
def says(tmp_path):
    return tmp_path


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.full)])
def test_an_interrupted_run_ends_every_process_and_removes_every_file(how, says):
    workers = tiers.number(1, full=2)
    command = [*(sys.executable, "-m", "pytest", "-n", str(workers)), *("-p", "no:cacheprovider"), LONG_RUN]
    environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ | {"SAYS": str(says), "WORKERS": str(workers)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len([*says.glob("[01]")]) == workers, what="all workers have started everything")
        said = [one.read_text().splitlines() for one in says.glob("[01]")]
        places, started = {lines[0] for lines in said}, {int(pid) for lines in said for pid in lines[1:]}
        # Python processes, PostgreSQL and its own, Redis: of the workers and of the run.
        assert len(started) >= 15
        assert run.pid in started

        if how == "Ctrl-C":
            os.killpg(run.pid, signal.SIGINT)
        elif how == "SIGTERM":
            run.send_signal(signal.SIGTERM)
        else:
            # The tests' own process, whose parent it is that tidies up.
            psutil.Process(run.pid).children()[0].kill()
        run.wait(stretched(PATIENCE))
    finally:
        for pid in (
            {run.pid, *(one.pid for one in psutil.Process(run.pid).children(recursive=True))} if _alive(run.pid) else ()
        ):
            os.kill(pid, signal.SIGKILL)

    assert run.returncode != 0
    assert not [pid for pid in started if _alive(pid)]
    assert not [place for place in places if Path(place).exists()]
