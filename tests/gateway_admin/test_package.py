"""Holds: pyproject.toml, gateway_core.release

The wheel: every room is in it with its data files, and the version has one home.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_IN_THE_WHEEL = {"tests", "benchmarks", "tools"}


def test_every_room_is_in_the_wheel():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_IN_THE_WHEEL

    assert set(PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]) == {f"{room}*" for room in rooms}


def test_every_data_file_of_a_room_is_in_the_wheel():
    rooms = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in NOT_IN_THE_WHEEL]
    tracked = subprocess.run(["git", "ls-files", *rooms], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    data = [Path(file).name for file in tracked.splitlines() if not file.endswith(".py")]
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]

    assert len(data) > 100
    assert [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gateway_core.release.RELEASE"}


@pytest.mark.full
def test_the_wheel_alone_runs_both_commands(tmp_path: Path):
    # Of a copy: a build leaves files beside its sources.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in filter(None, tracked.split("\0")):
        copied = tmp_path / "source" / file
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copied)
    uv = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path)]
    subprocess.run([*uv, str(tmp_path / "source")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    scripts = ConfigParser()
    scripts.read(next((tmp_path / "installed").glob("*.dist-info/entry_points.txt")))
    asked = {"gateway-admin": ["check"], "gateway-worker": ["--help"]}

    for name, arguments in asked.items():
        module, _, function = scripts["console_scripts"][name].partition(":")
        program = f"import sys; sys.argv[0] = {name!r}; from {module} import {function}; {function}()"
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "installed")}
        command = [sys.executable, "-P", "-c", program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert str(ROOT) not in done.stdout
    assert set(asked) == set(PROJECT["project"]["scripts"])
