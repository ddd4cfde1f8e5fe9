"""`make run` installs base.txt alone: nothing that runs in production may lean on a test tool."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
# Imports that happen in each of the Procfile's processes, late ones of their libraries included.
PROCESSES = {
    "control plane": "import django; django.setup(); import gateway_admin.wsgi, gateway_admin.urls, granian.cli",
    "data plane": "import data_plane.__main__, data_plane.http.server",
    "relay": "import django; django.setup(); import snapshots.relay",
    "Celery": (
        "import django; django.setup(); import gateway_admin.celery as made; "
        "import celery.bin.worker, celery.bin.beat, celery.apps.worker, celery.beat, celery.concurrency.prefork; "
        "import kombu.transport.redis; made.app.loader.import_default_modules(); "
        "made.app.connection_for_write().transport"
    ),
    "run": "import local.run, local.demo, local.stand_in",
}
BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
"""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def only_for_tests():
    """The top-level packages of what dev.txt adds to base.txt."""
    pinned = {
        room: {normal(name) for name in PINNED.findall((ROOT / f"requirements/{room}.txt").read_text())}
        for room in ("base", "dev")
    }
    extra = pinned["dev"] - pinned["base"]
    assert "pytest" in extra
    owners = metadata.packages_distributions()
    return {package for package, names in owners.items() if {normal(name) for name in names} <= extra}


def run_without(blocked, process):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCK + PROCESSES[process], ",".join(sorted(blocked))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "gateway_admin.settings"},
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_leans_on_a_test_tool(process):
    blocked = only_for_tests()
    assert "_pytest" in blocked

    done = run_without(blocked, process)

    assert done.returncode == 0, done.stderr[-2000:]


def test_a_package_that_celery_needs_would_be_missed():
    done = run_without({"packaging"}, "Celery")

    assert "No module named 'packaging'" in done.stderr
