"""Holds: data_plane.settings

What a worker starts with, and what it refuses to start without.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from data_plane.settings import load
from gateway_core import envelopes, sealing
from gateway_core.environment import EnvironmentIncomplete
from tests.workers import ROOT

PRIVATE = sealing.generate_private_key()
DOCUMENT = envelopes.generate_document_key()
WHOLE = {
    "REDIS_URL": "redis://:hidden-password@127.0.0.1:6390/0",
    "DOCUMENT_KEYS": DOCUMENT,
    "SEALING_PRIVATE_KEYS": PRIVATE,
}


def test_what_is_missing_is_named_all_at_once():
    with pytest.raises(EnvironmentIncomplete) as refusal:
        load({"GATEWAY_MODE": "production"})

    for name in WHOLE:
        assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://127.0.0.1"),
        ("DOCUMENT_KEYS", "00000000:short"),
        ("SEALING_PRIVATE_KEYS", sealing.public_key_of(PRIVATE)),
        ("DATA_PLANE_PORT", "eighty"),
        ("DATA_PLANE_PORT", "65536"),
        ("UPSTREAM_BASE_URLS", "nobody=http://127.0.0.1:1"),
        ("UPSTREAM_BASE_URLS", "openai=ftp://127.0.0.1"),
        ("UPSTREAM_BASE_URLS", "openai=http://user:pass@127.0.0.1"),
        ("UPSTREAM_ALLOWED_NETWORKS", "10.0.0.0/33"),
        ("UPSTREAM_ALLOWED_HOSTS", "not a host"),
        ("SNAPSHOT_STALENESS", "-1"),
        ("SNAPSHOT_STALENESS", "nan"),
        ("CONNECTIONS", "0"),
        ("CONNECTIONS_PER_ADDRESS", "-1"),
        ("REQUEST_HEAD_TIMEOUT", "soon"),
        ("DNS_SERVERS", "ns.example"),
        ("DNS_SERVERS", "127.0.0.1:0"),
        ("LOG_LEVEL", "CHATTY"),
        ("CORS_ALLOWED_ORIGINS", "app.example"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example/"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example:443"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example,https://me@app.example"),
        ("GATEWAY_MODE", "staging"),
    ],
    ids=lambda text: text[:18],
)
def test_what_is_malformed_is_named_and_no_secret_repeated(name: str, value: str):
    with pytest.raises(EnvironmentIncomplete) as refusal:
        load(WHOLE | {name: value})

    assert name in str(refusal.value)
    assert "hidden-password" not in str(refusal.value)
    assert PRIVATE not in str(refusal.value)


def test_every_name_may_be_given_as_a_file(tmp_path: Path):
    files = {}
    for name, value in WHOLE.items():
        path = tmp_path / name
        path.write_text(f"{value}\n")
        files[f"{name}_FILE"] = str(path)

    assert load(files).redis_url == WHOLE["REDIS_URL"]

    with pytest.raises(EnvironmentIncomplete, match="DOCUMENT_KEYS_FILE"):
        load(files | {"DOCUMENT_KEYS_FILE": str(tmp_path / "absent")})


def test_production_is_the_default_once_a_server_is_named():
    assert load(WHOLE).mode == "production"
    assert not load(WHOLE).upstream_rules.loopback
    assert load(WHOLE | {"GATEWAY_MODE": "evaluation"}).upstream_rules.loopback
    assert load(WHOLE | {"GATEWAY_MODE": "evaluation"}).host == "127.0.0.1"


def test_the_gateways_own_ports_are_known():
    found = load(WHOLE | {"DATA_PLANE_PORT": "9001", "CONTROL_PLANE_PORT": "9000", "UPSTREAM_DENIED_PORTS": "5433, 1"})

    assert found.upstream_rules.own_ports == {9001, 9000, 6390, 5433, 1}


def test_a_repr_shows_no_secret():
    shown = repr(load(WHOLE))

    assert "hidden-password" not in shown
    assert PRIVATE[-20:] not in shown


def run(*command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "data_plane", *command],
        check=False,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_worker_without_its_settings_ends_at_once_and_says_why():
    ended = run("serve")

    assert ended.returncode == 2
    assert "REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_new_keys_are_such_that_both_planes_start_with_them():
    made = dict(line.split("=", 1) for line in run("keygen").stdout.splitlines())

    assert set(made) == {"SEALING_PRIVATE_KEYS", "SEALING_PUBLIC_KEY", "DOCUMENT_KEYS"}
    assert sealing.public_key_of(made["SEALING_PRIVATE_KEYS"]) == made["SEALING_PUBLIC_KEY"]
    load(WHOLE | {name: made[name] for name in ("SEALING_PRIVATE_KEYS", "DOCUMENT_KEYS")})


@pytest.mark.parametrize("command", [[], ["serve"], ["keygen"]])
def test_every_command_has_a_help(command: list[str]):
    told = run(*command, "--help")

    assert told.returncode == 0
    assert "Usage" in told.stdout
