"""Holds: docs, README.md

What the documents name is there: links, pictures, targets of make, settings' page, every decision.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    targets = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT[page])]

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to").glob("*.md")), ids=lambda page: page.name)
def test_every_file_that_a_how_to_names_exists(page):
    named = re.findall(r"`([\w.-]+/[\w./-]*)`", TEXT[page])

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_row_of_the_map_names_its_tests():
    tables = TEXT[ROOT / "docs/how-to/README.md"]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", tables, re.MULTILINE)]
    places = [row for row in rows if row[0] != "what"]

    assert len(places) > 60
    assert [row[0] for row in places if not row[2].startswith(("`tests/", "none: "))] == []


def test_every_target_of_make_that_is_named_exists():
    named = {name for text in TEXT.values() for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}

    assert {"run", "demo", "soak"} <= named <= TARGETS


def test_make_help_lists_every_target():
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout

    assert {line.split()[0] for line in told.splitlines()} == TARGETS


def test_every_page_is_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        ahead += [(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#:]+)\)", TEXT[page])]

    assert set(PAGES) == reached


def test_every_decision_is_in_the_list():
    listed = re.findall(r"\((\d{4}-[a-z-]+\.md)\)", TEXT[ROOT / "docs/decisions/README.md"])

    assert listed == sorted(page.name for page in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert len({name[:4] for name in listed}) == len(listed), "two decisions have one number"
