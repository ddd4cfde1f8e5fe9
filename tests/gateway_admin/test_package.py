"""Holds: pyproject.toml, gateway_core.release

The wheel: every room is in it with its data files, and the version has one home.
"""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

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
