"""Holds: data_plane.__main__

How a worker process begins.
"""

import os
import subprocess
import sys


def test_a_worker_loads_nothing_that_only_a_command_line_needs():
    """It would keep it in its memory for as long as it runs."""
    began = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "data_plane", "serve"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert began.returncode == 2
    assert "needs: REDIS_URL" in began.stderr
    assert "data_plane.http.server" in began.stderr
    assert "pydantic" not in began.stderr
