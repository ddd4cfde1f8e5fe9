"""Holds: rest.schema, gateway_admin.urls

The API, held by Schemathesis to its own OpenAPI document: every check; in the full tier every warning is a failure.

The run has two accounts, so that it also looks for objects that leak from one into the other. Its hooks give it real
objects to speak of, since a run in which all is 404 proves nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from tests import tiers
from tests.events import an_event, send
from tests.live import ROOT, ControlPlane, control_plane, manage

HERE = Path(__file__).resolve().parent
# The coverage phase takes four fifths of the time, and without it some operations meet too few real objects for the
# warnings to say anything.
SMALL = ["--phases", "examples,fuzzing,stateful", "--warnings", "off"]


@pytest.fixture(scope="module")
def plane():
    with control_plane(os.environ["DATABASE_URL"], threads=4) as running:
        yield running


def test_schemathesis_finds_no_failure_and_warns_of_nothing(plane: ControlPlane, redis: Redis, tmp_path):
    keys = {"alice": plane.token, "charlie": plane.strangers_token}
    identities = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for name, token in keys.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"auth": identities}))
    own = [
        plane.request("GET", "/api-keys", token=token).json()["aiGatewayApiKeys"][0]["id"] for token in keys.values()
    ]
    configuration = plane.request("POST", "/access-key-configurations", {"name": "shared"}).json()["id"]
    used = an_event(plane.request("GET", "/gateway-config").json()["accountId"])
    send(redis, [used])
    manage(plane.environ, "ingest_usage")

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(HERE / "schemathesis.toml")),
            *("run", f"{plane.url}/openapi.json"),
            *(() if tiers.is_full() else SMALL),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_BASE_URL": plane.url,
            "SCHEMATHESIS_HOOKS_FILE": str(HERE / "schemathesis_hooks.py"),
            "SCHEMATHESIS_KEYS_FILE": str(tmp_path / "keys.json"),
            "SCHEMATHESIS_OWN_KEY_IDS": " ".join(own),
            "SCHEMATHESIS_CONFIGURATION_ID": configuration,
            "SCHEMATHESIS_REQUEST_ID": used.request_id,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "No issues found" in ran.stdout, ran.stdout
