"""Holds: tests

Every test module says in its first line what it holds. `docs/promises.md` names tests that are there, of every module.
"""

import re

import pytest

from tests.workers import ROOT

MODULES = sorted((ROOT / "tests").rglob("test_*.py"))
PROMISES = ROOT / "docs" / "promises.md"
# A state machine of hypothesis is a test under the name that it is assigned to.
TESTS = re.compile(r"^(?: *(?:async )?def (test_\w+)\(|(Test\w+) = )", re.MULTILINE)


def is_there(name):
    """A module, a package, or a file of the repository."""
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file() or (ROOT / name).exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_the_first_line_of_a_test_module_names_what_it_holds(module):
    with module.open() as lines:
        first = lines.readline().strip()

    assert first.startswith('"""Holds: ')
    assert not [name for name in first.removeprefix('"""Holds: ').removesuffix('"""').split(", ") if not is_there(name)]


def test_the_promises_name_tests_that_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PROMISES.read_text())
    there = {path: {one or other for one, other in TESTS.findall((ROOT / path).read_text())} for path, _ in named}

    assert len(named) > 100
    assert [f"{path}::{test}" for path, test in named if test not in there[path]] == []


def test_every_test_module_has_a_line_among_the_promises():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::", PROMISES.read_text()))

    assert {str(module.relative_to(ROOT)) for module in MODULES} == named, "add what it holds to docs/promises.md"
