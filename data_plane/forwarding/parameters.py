"""Parameters that a model does not take: left out for it, or sent under another name, and told to the caller.

Source: contract, section 9; docs/decisions/0130-parameters.md.
"""

import re
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway_core.dialects.facts import NotTakenBy

_MOST_SHOWN: Final = 20
# A token of RFC 9651, section 3.3.4, but for what else it may hold.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_NONE: Final = frozenset({b"null", b'"none"'})
# In `reasoning` and `thinking`: an effort other than none, or thinking that is on.
_REASONS: Final = re.compile(rb'"effort"\s*:\s*"(?!none")|"type"\s*:\s*"(?:enabled|adaptive)"|"max_tokens"\s*:\s*[1-9]')
_ABSENT: Final = msgspec.Raw(b"null")


class LeftOut(NamedTuple):
    """What does not go upstream of a request, and what its caller is told."""

    # The members that the model does not take. Those that the provider does not list are not among them.
    dropped: Collection[str]
    # `temperature`, or `max_tokens;as=max_completion_tokens`.
    told: Sequence[str]


def left_out(
    asked: Mapping[str, msgspec.Raw],
    listed: Collection[str] | None,
    changes: MutableMapping[str, msgspec.Raw],
    not_taken: NotTakenBy,
) -> LeftOut:
    """What a provider or a model does not take of a request.

    Args:
        asked: the members of the request.
        listed: the members that the provider takes, None for all.
        changes: members that the gateway sets; renamed ones are added, and those that the model does not take go.
        not_taken: by the model (gateway_core.dialects.parameters_not_taken).
    """
    told = [] if listed is None else [name for name in asked if name not in listed and _is_told(name)]
    names = not_taken.names
    if names.isdisjoint(asked) and names.isdisjoint(changes):
        return LeftOut((), told)
    present = {name for name in asked if listed is None or name in listed} | changes.keys()
    dropped: set[str] = set()
    for rule in not_taken.rules:
        if (rule.beside and rule.beside not in present) or (rule.if_reasoning and not _reasons(asked)):
            continue
        gone = [name for name in rule.removed if name in present]
        told += gone
        for name, other in rule.renamed:
            if name not in present:
                continue
            gone.append(name)
            # Where both are there the one that the model takes counts, and keeps to any cap by itself.
            told.append(name if other in present else f"{name};as={other}")
            if other not in present:
                changes[other] = changes[name] if name in changes else asked[name]
        for name in gone:
            changes.pop(name, None)
        present.difference_update(gone)
        dropped.update(gone)
    return LeftOut(dropped, told)


def _is_told(name: str) -> bool:
    return name != "models" and _NAME.fullmatch(name) is not None


def header(told: Sequence[str]) -> str:
    """The value of `gateway-removed-params`: a list of RFC 9651, of at most 20 names."""
    return ", ".join(told[:_MOST_SHOWN])


def _reasons(asked: Mapping[str, msgspec.Raw]) -> bool:
    effort = asked.get("reasoning_effort")
    if effort is not None and bytes(effort).strip() not in _NONE:
        return True
    return any(_REASONS.search(asked.get(name, _ABSENT)) for name in ("reasoning", "thinking"))
