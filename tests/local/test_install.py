"""Holds: requirements/install.py, Makefile

The first minute: Python is checked in words before anything is made, and a failed try does not spoil the next.
"""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "requirements" / "install.py"


def python_that(does, place):
    """A program in the place of a Python."""
    program = place / "python3"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return program


def make(place, *arguments):
    shutil.copy(ROOT / "Makefile", place)
    (place / "requirements").mkdir(exist_ok=True)
    for name in ("local.txt", "installer.txt"):
        (place / "requirements" / name).touch()
    return subprocess.run(
        ["make", "--no-print-directory", "run", *arguments], cwd=place, capture_output=True, text=True, check=False
    )


def test_a_python_that_is_too_old_is_named_before_anything_is_made(tmp_path):
    old = python_that('[ "$1" = --version ] && echo Python 3.10.13\nexit 1', tmp_path)

    refused = make(tmp_path, f"PYTHON={old}")

    assert refused.returncode != 0
    assert f"This needs Python 3.11 or newer, and {old} is: Python 3.10.13\n" in refused.stderr
    assert "make run PYTHON=python3." in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_not_there_is_named_before_anything_is_made(tmp_path):
    refused = make(tmp_path, "PYTHON=python3.99")

    assert "This needs Python 3.11 or newer, and python3.99 is: " in refused.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("absent", ["venv", "ensurepip"])
def test_a_python_without_venv_or_pip_is_refused_with_the_package_that_brings_them(tmp_path, absent):
    without = f"import runpy, sys; sys.modules[{absent!r}] = None; runpy.run_path(sys.argv[1], run_name='__main__')"

    refused = subprocess.run(
        [sys.executable, "-c", without, INSTALLER, "local", tmp_path / ".venv"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1
    assert f"comes without {absent}" in refused.stderr
    assert f"apt install python3.{sys.version_info.minor}-venv" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture(scope="module")
def installer():
    return runpy.run_path(str(INSTALLER))


@pytest.mark.parametrize("left", ["nothing", "no Python", "a Python that is too old or has no pip", "half an install"])
def test_an_environment_that_an_earlier_try_spoilt_is_not_used(installer, tmp_path, left):
    environment = tmp_path / ".venv"
    if left != "nothing":
        (environment / "bin").mkdir(parents=True)
    if left == "a Python that is too old or has no pip":
        python_that("exit 1", environment / "bin").rename(environment / "bin" / "python")
    if left == "half an install":
        (environment / "bin" / "python").symlink_to(sys.executable)
        (environment / "unfinished").touch()

    assert not installer["is_usable"](environment)


def test_an_environment_that_cannot_be_used_is_made_again(installer, tmp_path):
    environment = tmp_path / ".venv"
    (environment / "lib" / "python3.10").mkdir(parents=True)
    (environment / "unfinished").touch()

    installer["make_environment"](environment)

    assert installer["is_usable"](environment)
    assert not (environment / "lib" / "python3.10").exists()


def test_an_environment_that_works_is_kept(installer, tmp_path, monkeypatch):
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    python_that("exit 0", environment / "bin").rename(environment / "bin" / "python")
    before = (environment / "bin" / "python").stat().st_ino

    installer["make_environment"](environment)

    assert (environment / "bin" / "python").stat().st_ino == before


def test_pip_installs_what_uv_cannot(tmp_path):
    """uv does not read pip's configuration, and may find no registry where pip finds one."""
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    log = tmp_path / "log"
    python_that(f'echo "$@" >> {log}\n[ "$2" != uv ]', environment / "bin").rename(environment / "bin" / "python")

    done = subprocess.run([sys.executable, INSTALLER, "local", environment], capture_output=True, text=True, check=True)

    assert "uv could not. pip does it" in done.stdout
    asked = [line for line in log.read_text().splitlines() if line.startswith("-m")]
    assert [line.split()[1] for line in asked] == ["pip", "uv", "pip"]
    assert asked[-1].endswith("requirements/local.txt")
    assert all("--require-hashes --only-binary :all:" in line for line in asked)
    assert not (environment / "unfinished").exists()


def test_an_install_that_failed_leaves_a_mark_and_says_so(tmp_path):
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    python_that('[ "$1" != -m ]', environment / "bin").rename(environment / "bin" / "python")

    failed = subprocess.run(
        [sys.executable, INSTALLER, "local", environment], capture_output=True, text=True, check=False
    )

    assert failed.returncode == 1
    assert "local.txt could not be installed" in failed.stderr
    assert (environment / "unfinished").exists()
