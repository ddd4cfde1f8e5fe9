"""Holds: local.evaluation

What a run keeps under var/.
"""

import os
import stat
import subprocess

import pytest

from gateway_core.sealing import Keyring, SealingKey, generate_private_key, public_key_of
from local.evaluation import AlreadyRunning, Var


@pytest.fixture
def var(tmp_path):
    directory = Var(tmp_path / "var")
    directory.open()
    return directory


def test_a_second_run_on_the_same_directory_is_refused_and_told_who_holds_it(var):
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        Var(var.path).open()


def test_secrets_are_made_once_and_nobody_else_reads_them(var):
    assert var.is_new
    made = var.secrets({})

    assert not var.is_new
    assert var.secrets({}) == made
    assert all(made.values())
    kept = [file for file in var.path.rglob("*") if file.is_file()]
    assert kept
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert not stat.S_IMODE(var.path.stat().st_mode) & 0o066


def test_the_public_sealing_key_is_the_private_ones(var):
    made = var.secrets({})

    assert Keyring.parse(made["SEALING_PRIVATE_KEYS"]).ids == (SealingKey.parse(made["SEALING_PUBLIC_KEY"]).id,)


def test_given_secrets_win_and_are_not_kept(var):
    private = generate_private_key()

    found = var.secrets({"SECRET_KEY": "given", "SEALING_PRIVATE_KEYS": private})

    assert found["SECRET_KEY"] == "given"
    assert found["SEALING_PUBLIC_KEY"] == public_key_of(private)
    assert var.secrets({})["SECRET_KEY"] != "given"
    assert private not in "".join(file.read_text() for file in (var.path / "secrets").iterdir())


def test_a_shell_that_reads_dev_env_hands_its_variables_on_and_nobody_else_reads_it(var):
    assert var.read_dev_env() == {}
    values = {"DATABASE_URL": "postgresql://u:p@h/d?a=b&c='d e'", "GATEWAY_MODE": "evaluation"}

    var.write_dev_env(values)

    file = var.path / "dev.env"
    handed_on = subprocess.run(
        ["sh", "-c", '. "$0"; env', file], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    ).stdout
    assert values.items() <= dict(line.split("=", 1) for line in handed_on.splitlines()).items()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert var.read_dev_env() == values


def test_a_dev_env_of_an_earlier_release_which_exported_nothing_is_read(var):
    (var.path / "dev.env").write_text("DATABASE_URL=postgresql://u:p@h/d?a=b\nGATEWAY_MODE=evaluation\n")

    assert var.read_dev_env() == {"DATABASE_URL": "postgresql://u:p@h/d?a=b", "GATEWAY_MODE": "evaluation"}


def test_a_directory_that_was_there_keeps_its_mode(tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var").chmod(0o755)

    Var(tmp_path / "var").open()

    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o755
