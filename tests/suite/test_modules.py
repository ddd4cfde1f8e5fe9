"""Holds: tests

Every test module says in its first line what it holds, and `docs/promises.md` names tests that are there.
"""

import ast
import re
from functools import cache

import pytest

from tests.workers import ROOT

MODULES = sorted((ROOT / "tests").rglob("test_*.py"))
PROMISES = ROOT / "docs" / "promises.md"


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def is_there(name):
    """A module, a package, or a file of the repository."""
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file() or (ROOT / name).exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_the_first_line_of_a_test_module_names_what_it_holds(module):
    first = (ast.get_docstring(tree_of(module)) or "").partition("\n")[0]

    assert first.startswith("Holds: ")
    assert not [name for name in first.removeprefix("Holds: ").split(", ") if not is_there(name)]


def test_the_promises_name_tests_that_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PROMISES.read_text())

    assert len(named) > 100
    for path, test in named:
        nodes = [*ast.walk(tree_of(ROOT / path))]
        # A state machine of hypothesis is a test under the name that it is assigned to.
        there = {getattr(node, "name", None) or getattr(node, "id", None) for node in nodes}
        assert test in there, f"{path}::{test}"


def test_every_test_module_has_a_line_among_the_promises():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::", PROMISES.read_text()))

    assert {str(module.relative_to(ROOT)) for module in MODULES} == named, "add what it holds to docs/promises.md"
