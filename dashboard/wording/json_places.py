"""The places of JSON paths into a configuration, in words."""

import re
from typing import Final

_PART: Final = re.compile(r"(rule|step|key)s\[(\d+)\]")
_ENTRY: Final = re.compile(r"access\.(provider|model)s\.allow\[(\d+)\]")
_ACCESS: Final = re.compile(r"access\.(provider|model)s(?:\.allow)?")


def place(path: str) -> str:
    """Where an explanation was decided: `router.rules[1].steps[0]` is "rule 2, step 1"."""
    if path == "default":
        return "no rule matches: the default"
    if entry := _ENTRY.fullmatch(path):
        return f"{entry[1]} entry {int(entry[2]) + 1}"
    return ", ".join(_parts(path))


def fault_place(path: str) -> str:
    """Where a fault is: `router.rules[0].steps[1].keys[2].value` is "Rule 1, step 2, key 3, value".

    Returns:
        An empty text for `$`, the whole of the body.
    """
    if path == "$":
        return ""
    if path == "router":
        return "Routing"
    if entry := _ENTRY.fullmatch(path):
        words = f"allowed {entry[1]} {int(entry[2]) + 1}"
    elif access := _ACCESS.fullmatch(path):
        words = f"allowed {access[1]}s"
    else:
        rest = _PART.sub("", path.removeprefix("router."))
        words = ", ".join([*_parts(path), *filter(None, rest.split("."))])
    return words[:1].upper() + words[1:]


def _parts(path: str) -> list[str]:
    return [f"{noun} {int(number) + 1}" for noun, number in _PART.findall(path)]
