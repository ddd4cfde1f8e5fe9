"""Holds: docs/settings.md

docs/settings.md is true: it lists every setting that the code reads, and no other.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Every way in which a setting's name stands in the code that reads it.
READ = re.compile(
    r"""(?:environment\.(?:read|names|is_on|parsed)|_required|read_parsed|env\.(?:text|required|optional))\(\s*["']([A-Z][A-Z_]+)["']"""
)
SOURCES = ["gateway_admin/settings.py", "data_plane/settings.py", "gateway_core/environment.py"]


def test_the_page_lists_what_the_planes_read_and_nothing_else():
    read = {name for source in SOURCES for name in READ.findall((ROOT / source).read_text())} | {"GATEWAY_MODE"}
    page = (ROOT / "docs/settings.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}

    assert listed == read
