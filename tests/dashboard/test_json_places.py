"""Holds: dashboard.wording.json_places

A JSON path into a configuration, as people say it.
"""

import pytest

from dashboard.wording.json_places import fault_place, place


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("default", "no rule matches: the default"),
        ("router.rules[1].steps[0]", "rule 2, step 1"),
        ("router.rules[0].steps[1].keys[2]", "rule 1, step 2, key 3"),
        ("access.models.allow[0]", "model entry 1"),
    ],
)
def test_a_place_that_decided(path: str, words: str) -> None:
    assert place(path) == words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("$", ""),
        ("name", "Name"),
        ("router", "Routing"),
        ("router.rules", "Rules"),
        ("router.rules[0]", "Rule 1"),
        ("router.rules[0].model", "Rule 1, model"),
        ("router.rules[0].steps[1].keys[2].value", "Rule 1, step 2, key 3, value"),
        ("access", "Access"),
        ("access.providers", "Allowed providers"),
        ("access.models.allow", "Allowed models"),
        ("access.models.allow[0]", "Allowed model 1"),
    ],
)
def test_a_place_of_a_fault(path: str, words: str) -> None:
    assert fault_place(path) == words
