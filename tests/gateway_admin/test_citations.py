"""Holds: docs

What code and documents cite exists: sections, decisions, files, modules. Each decision record has the same parts.
"""

import importlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {".py", ".md", ".html", ".js", ".css", ".lua", ".toml", ".in", ".sh"}
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
FOLDERS = [*ROOMS, "docs", "requirements", ".ci", ".github"]
FILES = sorted(
    path
    for folder in [ROOT, *(ROOT / folder for folder in FOLDERS)]
    for path in (folder.glob("*") if folder == ROOT else folder.rglob("*"))
    if path.is_file() and (path.suffix in KINDS or path.name in {"Makefile", "Procfile"})
)
TEXT = {path: path.read_text(encoding="utf-8") for path in FILES}
PAGES = {path: text for path, text in TEXT.items() if path.suffix == ".md"}
# A release's history keeps the names of its time.
PRESENT_PAGES = {path: text for path, text in PAGES.items() if path.name != "CHANGELOG.md"}
RECORDS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))

NUMBERS = r"([0-9]+(?:(?:, | and | to )[0-9]+)*)"
SECTIONS = re.compile(rf"contract, sections? {NUMBERS}")
DECISIONS = re.compile(rf"architecture, decisions? {NUMBERS}")
RECORD = re.compile(r"(?:docs/decisions/|\bto )([0-9]{4}[a-z0-9-]*)(?:\.md)?")
IN_A_FOLDER = rf"(?:{'|'.join(map(re.escape, FOLDERS))})/"
PATH = re.compile(rf"(?<![\w./{{-])({IN_A_FOLDER}[\w./-]*[\w-]\.(?:py|md|html|js|css|lua|json|toml|yml|in|txt|png))\b")
FOLDER = re.compile(rf"`({IN_A_FOLDER}(?:[\w.-]+/)*)`")
MODULE = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.[A-Za-z_][A-Za-z_0-9]*)+)(?:\([^`]*)?`")
PARTS = ["Decision", "Why", "Considered", "Costs", "Status"]


def where(path):
    return str(path.relative_to(ROOT))


def cited(pattern):
    """Every number that the pattern finds, with the file that cites it."""
    for path, text in TEXT.items():
        for numbers in pattern.findall(re.sub(r"\s+(?:#\s)?", " ", text)):
            for number in re.findall("[0-9]+", numbers):
                yield where(path), int(number)


def test_the_files_of_all_rooms_are_read():
    assert len(FILES) > 400
    assert {"access_keys", "data_plane", "tests", "dashboard"} <= set(ROOMS)


def test_every_section_of_the_contract_that_is_cited_exists():
    sections = {int(number) for number in re.findall(r"^## (\d+)\. ", TEXT[ROOT / "docs/contract.md"], re.MULTILINE)}
    found = list(cited(SECTIONS))

    assert sections == set(range(1, 10))
    assert len(found) > 30
    assert [(path, number) for path, number in found if number not in sections] == []


def test_every_decision_of_the_architecture_that_is_cited_exists():
    _, _, listed = TEXT[ROOT / "docs/architecture.md"].partition("\n## Decisions\n")
    decisions = [int(number) for number in re.findall(r"^(\d+)\. \*\*", listed, re.MULTILINE)]
    found = list(cited(DECISIONS))

    assert decisions == list(range(1, len(decisions) + 1))
    assert found
    assert [(path, number) for path, number in found if number not in decisions] == []


def test_every_decision_record_that_is_cited_exists():
    names = {path.stem for path in RECORDS}
    found = [
        (where(path), name)
        for path, text in TEXT.items()
        for line in text.splitlines()
        if "docs/decisions/" in line
        for name in RECORD.findall(line)
    ]

    assert len(found) > 40
    assert [(path, name) for path, name in found if name not in names] == []


def test_every_source_is_a_document_of_ours_or_outside():
    """`Source:` ends a docstring: what of it begins like a document of ours is one."""
    sources = [
        (where(path), part.strip(" ."))
        for path, text in TEXT.items()
        if path.suffix == ".py" and path != Path(__file__)
        for source in re.findall(r"^ *Source: (.*(?:\n.*\S)*)", text, re.MULTILINE)
        for part in re.split(r";|, (?=docs/)", source.partition('"""')[0])
    ]
    ours = re.compile(r"contract, sections? |architecture, decisions? |docs/decisions/[0-9]{4}-[a-z-]+\.md")
    suspicious = re.compile(r"docs/|contract|architecture|decision|section [0-9]+$")

    assert len(sources) > 60
    assert [(path, part) for path, part in sources if suspicious.match(part) and not ours.match(part)] == []


def exists(path, name):
    """A path from the root; in the dashboard also one of a template or a static file."""
    return any((base / name).exists() for base in (ROOT, ROOT / "dashboard/templates", ROOT / "dashboard/static"))


def test_every_path_that_is_named_exists():
    stale = [
        (where(path), name)
        for path, text in TEXT.items()
        if path.name != "CHANGELOG.md" and path.parts[-2] != "migrations" and path != Path(__file__)
        for name in {*PATH.findall(text), *(FOLDER.findall(text) if path.suffix == ".md" else ())}
        if not exists(path, name)
    ]

    assert stale == []


@pytest.mark.parametrize("page", PRESENT_PAGES, ids=where)
def test_every_module_that_a_document_names_exists(page):
    missing = []
    for name in set(MODULE.findall(PAGES[page])):
        if any(f'"{name}"' in text for path, text in TEXT.items() if path.suffix == ".py"):
            continue  # a task of Celery, by its name
        parts = name.split(".")
        module, length = None, 0
        for end in range(1, len(parts) + 1):
            if (ROOT / "/".join(parts[:end])).is_dir() or (ROOT / ("/".join(parts[:end]) + ".py")).is_file():
                module, length = importlib.import_module(".".join(parts[:end])), end
        found = module
        for attribute in parts[length:]:
            found = getattr(found, attribute, None)
        if found is None:
            missing.append(name)

    assert missing == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_every_decision_record_has_the_same_parts(record):
    text = TEXT[record]
    lines = text.splitlines()
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    bodies = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]

    assert re.fullmatch(rf"# {record.name[:4]}\. [A-Z].*", lines[0])
    assert headings == PARTS
    assert all(body.strip() for body in bodies)
    assert re.fullmatch(r"(Accepted|Replaced by \[\d{4}\]\(.+\)), \d{4}-\d\d-\d\d\.", bodies[-1].strip())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_every_decision_record_is_cited_from_outside_its_folder(record):
    citing = [path for path, text in TEXT.items() if path.parent != record.parent and record.stem in text]

    assert citing


def test_the_list_of_decisions_has_the_titles_of_the_records():
    listed = re.findall(
        r"^- \[(\d+)\]\((\d{4}-[a-z0-9-]+\.md)\) (.+)$", TEXT[ROOT / "docs/decisions/README.md"], re.MULTILINE
    )

    assert listed == [
        (str(int(record.name[:4])), record.name, TEXT[record].splitlines()[0].partition(". ")[2]) for record in RECORDS
    ]
    assert all(int(before[0]) < int(after[0]) for before, after in pairwise(listed))


# ── the layout ──


def layout():
    """README's table of what is where: the line of each package by its path."""
    _, _, section = TEXT[ROOT / "README.md"].partition("\n## What is where\n")
    table = section.partition("\n## ")[0]
    return dict(re.findall(r"^\| \[`([\w/]+)/`\]\([\w/]+\) \| (.+) \|$", table, re.MULTILINE))


def test_the_layout_lists_every_room():
    assert set(ROOMS) <= set(layout())


@pytest.mark.parametrize("package", layout())
def test_each_package_says_of_itself_what_the_layout_says(package):
    first = TEXT[ROOT / package / "__init__.py"].splitlines()[0]

    assert first.removeprefix('"""').removesuffix('"""') == layout()[package]
