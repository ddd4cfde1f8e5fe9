"""Holds: README.md

The README's walk, pasted as it stands into a shell beside `make try`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.gateway_run import GatewayRun, shell

pytestmark = pytest.mark.xdist_group("run")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout():
    """A directory that everybody may go through, with the Python that `make` would have put there."""
    path = Path(tempfile.mkdtemp(prefix="gateway-readme-"))
    path.chmod(0o755)
    (path / ".venv" / "bin").mkdir(parents=True)
    (path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    yield path
    shutil.rmtree(path)


def test_the_walk_of_the_readme_works_as_one_paste_without_a_key_of_anybodys(checkout):
    section = (ROOT / "README.md").read_text().partition("## From a provider key to a routed request")[2]
    paste = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert paste is not None
    run = GatewayRun(checkout / "var", arguments=["--stand-in"])
    try:
        environ = {name: value for name, value in shell().items() if name != "OPENAI_API_KEY"}
        done = subprocess.run(
            ["sh", "-c", paste[1]],
            cwd=checkout,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        run.close()

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/1.1 200 OK"), done.stdout + done.stderr
    assert "gateway-provider: openai" in done.stdout
    assert '"keyRedacted":"sk-demo-01***mnop"' in done.stderr
