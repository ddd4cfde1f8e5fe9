"""`make release-check`: the version in the code, the changelog and the tags agree.

The version has one home, gateway_core/release.py. A release is a heading of CHANGELOG.md, `## 0.1.0 - 2026-11-28`, and
a tag, `v0.1.0`, whose tree has this version. What may change in which release stands in docs/releasing.md.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway_core.release import RELEASE

ROOT: Final = Path(__file__).resolve().parents[1]
UNRELEASED: Final = "Unreleased"

_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_RELEASE: Final = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+) - ([0-9]{4}-[0-9]{2}-[0-9]{2})")
_TAG: Final = re.compile(r"v([0-9]+\.[0-9]+\.[0-9]+)")
_IN_CODE: Final = re.compile(r'^RELEASE\b.*= "([^"]+)"$', re.MULTILINE)


def changelog_faults(release: str, changelog: str) -> list[str]:
    """What is wrong with the changelog of this version.

    Args:
        release: the version of the code, `0.1.0`.
        changelog: the text of CHANGELOG.md.
    """
    headings = _HEADING.findall(changelog)
    if headings[:1] != [UNRELEASED]:
        return [f"CHANGELOG.md must begin with the section {UNRELEASED!r}."]
    found = [_RELEASE.fullmatch(heading) for heading in headings[1:]]
    if not all(found):
        return [
            f"{heading!r} is not a release and its date." for heading in headings[1:] if not _RELEASE.fullmatch(heading)
        ]
    releases = [(_version(each[1]), each[2]) for each in found if each]
    faults = []
    if [_version(release)] != [version for version, _ in releases[:1]]:
        faults.append(f"The code is release {release}, and the changelog's newest heading is not.")
    if sorted(releases, reverse=True) != releases or len({version for version, _ in releases}) < len(releases):
        faults.append("The releases in CHANGELOG.md do not go from the newest to the oldest.")
    return faults


def tag_faults(release: str, changelog: str, tags: Mapping[str, str], tags_of_head: set[str]) -> list[str]:
    """What is wrong with the tags.

    Args:
        release: the version of the code.
        changelog: the text of CHANGELOG.md.
        tags: for each tag of a release the version that its code has.
        tags_of_head: the tags of the present commit.
    """
    listed = [heading.partition(" ")[0] for heading in _HEADING.findall(changelog)[1:]]
    faults = [
        f"The tag {tag} is on code of release {version}."
        for tag, version in sorted(tags.items())
        if tag != f"v{version}"
    ]
    faults += [f"The tag {tag} has no heading in CHANGELOG.md." for tag in sorted(tags) if tag[1:] not in listed]
    faults += [f"Release {old} has no tag v{old}." for old in listed if old != release and f"v{old}" not in tags]
    _, _, unreleased = changelog.partition(f"## {UNRELEASED}\n")
    if f"v{release}" in tags_of_head and unreleased.partition("\n## ")[0].strip():
        faults.append(f"This commit is tagged v{release}, and CHANGELOG.md lists unreleased changes.")
    return faults


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603, S607 -- fixed arguments, the developer's git


def _tags(*arguments: str) -> list[str]:
    return [tag for tag in _git("tag", *arguments).split() if _TAG.fullmatch(tag)]


def _release_at(tag: str) -> str:
    found = _IN_CODE.search(_git("show", f"{tag}:gateway_core/release.py"))
    return found[1] if found else "without a version"


def main() -> int:
    """Print what is wrong, or what is next. Returns the exit status."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    tags = {tag: _release_at(tag) for tag in _tags()}
    faults = changelog_faults(RELEASE, changelog)
    faults += [] if faults else tag_faults(RELEASE, changelog, tags, set(_tags("--points-at", "HEAD")))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if faults:
        return 1
    next_step = "is tagged" if f"v{RELEASE}" in tags else f"has no tag yet: git tag --annotate v{RELEASE}"
    sys.stdout.write(f"Version, changelog and tags agree. Release {RELEASE} {next_step}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
