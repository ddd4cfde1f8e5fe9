"""Holds: tools.release_check

The check of a release: version, changelog and tags agree, in this tree and in made-up ones.
"""

import pytest

from gateway_core.release import RELEASE
from tools.release_check import ROOT, changelog_faults, tag_faults

GOOD = """# Changelog

## Unreleased

## 0.2.0 - 2027-01-31

- Something.

## 0.1.0 - 2026-11-28
"""


def test_the_changelog_of_this_tree_has_a_heading_for_its_version():
    assert changelog_faults(RELEASE, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []


def test_a_tagged_release_is_in_order():
    assert changelog_faults("0.2.0", GOOD) == []
    assert tag_faults("0.2.0", GOOD, {"v0.1.0": "0.1.0", "v0.2.0": "0.2.0"}, {"v0.2.0"}) == []


def test_a_release_may_wait_for_its_tag():
    assert tag_faults("0.2.0", GOOD, {"v0.1.0": "0.1.0"}, set()) == []


@pytest.mark.parametrize(
    ("release", "changelog", "fault"),
    [
        ("0.2.0", GOOD.replace("## Unreleased\n", ""), "must begin with the section"),
        ("0.2.0", GOOD.replace(" - 2027-01-31", ""), "is not a release and its date"),
        ("0.3.0", GOOD, "newest heading is not"),
        ("0.2.0", GOOD + "\n## 0.1.5 - 2026-12-01\n", "from the newest to the oldest"),
        ("0.2.0", GOOD.replace("0.1.0", "0.2.0"), "from the newest to the oldest"),
    ],
)
def test_a_changelog_that_is_not_in_order_is_refused(release, changelog, fault):
    assert fault in " ".join(changelog_faults(release, changelog))


@pytest.mark.parametrize(
    ("tags", "of_head", "changelog", "fault"),
    [
        ({"v0.1.0": "0.1.0", "v0.2.0": "0.1.0"}, set(), GOOD, "The tag v0.2.0 is on code of release 0.1.0."),
        ({"v0.0.9": "0.0.9", "v0.1.0": "0.1.0"}, set(), GOOD, "The tag v0.0.9 has no heading"),
        ({}, set(), GOOD, "Release 0.1.0 has no tag v0.1.0."),
        (
            {"v0.1.0": "0.1.0", "v0.2.0": "0.2.0"},
            {"v0.2.0"},
            GOOD.replace("## Unreleased\n", "## Unreleased\n\n- More.\n"),
            "lists unreleased changes",
        ),
    ],
)
def test_tags_that_do_not_fit_are_refused(tags, of_head, changelog, fault):
    assert fault in " ".join(tag_faults("0.2.0", changelog, tags, of_head))
