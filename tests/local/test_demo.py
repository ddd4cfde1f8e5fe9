"""Holds: local.demo

`make demo`: the README's walk, as a newcomer sees it.
"""

import subprocess
import sys

import pytest

from tests.gateway_run import shell

pytestmark = pytest.mark.xdist_group("run")


def test_the_demo_walks_from_a_provider_key_to_a_revoked_access_key():
    done = subprocess.run(
        [sys.executable, "-m", "local.demo"],
        env=shell(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for step in ("Starting PostgreSQL.", "Preparing the database.", "Starting the control plane"):
        assert f"\n  {step}" in done.stdout
    assert "→ 200, gateway-attempts: 1, gateway-provider: openai" in done.stdout
    assert "→ 200, gateway-attempts: 2, gateway-provider: openai" in done.stdout
    assert "data: [DONE]" in done.stdout
    assert '"code": "model_not_allowed"' in done.stdout
    assert '"code": "access_key_unknown"' in done.stdout
    assert done.stdout.count("sk-demo-0123456789abcdefghijklmnop") == 1  # where it is sent, and nowhere else
