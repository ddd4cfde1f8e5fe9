"""The revisions of a configuration, and the differences between two of them in words.

Only `keep` and `forget` use the database. A revision's content has the form of the wire, in which a provider key is an
ID; `names` has the names at that time.

Source: docs/decisions/0101-revisions.md.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

from django.db.models import QuerySet

from accounts.principals import Principal
from configurations.models import Configuration, Revision
from configurations.router import MANAGED
from gateway_core import ids
from gateway_core.plans import Strategy

Json = Any
_TEXTS: Final = ("name", "description", "metadata")
_DIMENSIONS: Final = {"providers": "provider", "models": "model"}
_KEY_LEAD: Final = f"{ids.Prefix.PROVIDER_KEY}_"
# At most this many entries are shown when a list is added or removed as a whole.
_MOST_SHOWN: Final = 5
FORGOTTEN_AT_ONCE: Final = 10


@dataclass(frozen=True)
class State:
    """The content and the names that are compared."""

    content: Mapping[str, Json]
    names: Mapping[str, str]

    @classmethod
    def of(cls, revision: Revision) -> "State":
        """The state that a revision holds."""
        return cls(revision.content, revision.names)

    @classmethod
    def now(cls, configuration: Configuration) -> "State":
        """The state of a configuration that was read with `with_named`."""
        return cls(configuration.content, names_of(configuration))


def names_of(configuration: Configuration) -> dict[str, str]:
    """`{ID: name}` of the provider keys and custom providers of a configuration that was read with `with_named`."""
    keys = {
        ids.to_text(ids.Prefix.PROVIDER_KEY, uuid.UUID(row["id"])): row["name"] or "" for row in configuration.routed
    }
    providers = {ids.to_text(ids.Prefix.PROVIDER, uuid.UUID(row["id"])): row["slug"] for row in configuration.named}
    return keys | providers


def keep(configuration: Configuration, by: Principal, *, most: int) -> None:
    """Store the state of a configuration as its newest revision, unless that has the same content.

    Args:
        configuration: read with `with_named`, in the transaction that wrote it and holds its lock.
        by: the principal who wrote it.
        most: how many are kept, the new one included; at least the new one is.
    """
    newest = configuration.revisions.order_by("-number").first()
    if newest is None or newest.content != configuration.content:
        configuration.revisions.create(
            number=newest.number + 1 if newest else 1,
            created_at=configuration.updated_at,
            created_by=by.id,
            created_by_name=by.name,
            content=configuration.content,
            names=names_of(configuration),
        )
        forget(configuration.revisions.all(), newest=newest.number + 1 if newest else 1, most=most)


def forget(revisions: QuerySet[Revision], *, newest: int, most: int) -> int:
    """Delete the oldest revisions of a configuration beyond `most`; returns how many. At most FORGOTTEN_AT_ONCE go.

    So a write pays for little more than the revision that it makes. The hourly task deletes what is left, where an
    operator has lowered the number (configurations.tasks).
    """
    oldest_kept = newest - max(most, 1) + 1
    expired = revisions.filter(number__lt=oldest_kept).order_by("number").values("pk")[:FORGOTTEN_AT_ONCE]
    count, _ = Revision.objects.filter(pk__in=expired).delete()
    return count


def changes_between(old: State, new: State) -> list[str]:
    """Describe each change from the old to the new state in a sentence for people.

    Returns:
        The sentences; empty only if both states are identical.
    """
    found = list(_Comparison(old, new).run())
    if not found and old.content != new.content:
        return ["written otherwise, with the same meaning"]
    return found


class _Step(NamedTuple):
    """A step in a comparable form. It has keys' IDs, which do not change when a key is renamed."""

    type: str
    keys: tuple[str, ...]
    strategy: str
    weights: tuple[int, ...]

    @classmethod
    def of(cls, step: Mapping[str, Json]) -> "_Step":
        keys = step.get("keys", ())
        return cls(
            step["type"],
            tuple(key["id"] for key in keys),
            step.get("keySelectionStrategy", Strategy.ORDERED.value),
            tuple(key.get("weight", 1) for key in keys),
        )


class _Comparison:
    """Compares two states. An object that was renamed has its newer name in all sentences."""

    def __init__(self, old: State, new: State) -> None:
        self._old = old.content
        self._new = new.content
        self._names = {**old.names, **new.names}

    def run(self) -> Iterator[str]:
        for field in _TEXTS:
            before, after = self._old.get(field), self._new.get(field)
            if before != after:
                yield f"{field}: {_quoted(before)} → {_quoted(after)}"
        for dimension, noun in _DIMENSIONS.items():
            yield from self._dimension(dimension, noun)
        yield from self._router()

    # ── access ──

    def _dimension(self, dimension: str, noun: str) -> Iterator[str]:
        before, after = self._allowed(self._old, dimension), self._allowed(self._new, dimension)
        if not before or not after:
            # One side allows everything or nothing: show both sides as a whole.
            if before != after:
                yield f"{dimension}: {_scope(before)} → {_scope(after)}"
            return
        yield from (f"{noun} {entry} now allowed" for entry in after if entry not in before)
        yield from (f"{noun} {entry} no longer allowed" for entry in before if entry not in after)

    def _allowed(self, content: Mapping[str, Json], dimension: str) -> list[str] | None:
        entries = ((content.get("access") or {}).get(dimension) or {}).get("allow")
        return None if entries is None else [self._by_provider_id(entry) for entry in entries]

    # ── router ──

    def _router(self) -> Iterator[str]:
        before, after = self._rules(self._old), self._rules(self._new)
        for place, subject in enumerate(before, start=1):
            if subject not in after:
                yield f"rule {place} ({subject}) removed"
        stayed = [subject for subject in before if subject in after]
        in_place = _in_order(stayed, [subject for subject in after if subject in before])
        for place, (subject, steps) in enumerate(after.items(), start=1):
            rule = f"rule {place} ({subject})"
            if subject not in before:
                yield f"{rule} added: {'; '.join(self._shown(step) for step in steps)}"
                continue
            if subject not in in_place:
                yield f"{rule} moved from place {list(before).index(subject) + 1}"
            yield from (f"{rule}: {change}" for change in self._steps(before[subject], steps))

    def _rules(self, content: Mapping[str, Json]) -> dict[str, list[_Step]]:
        """The steps of each rule, by what the rule is for."""
        return {
            self._by_provider_id(rule.get("model") or rule["provider"]): list(map(_Step.of, rule["steps"]))
            for rule in (content.get("router") or {}).get("rules", ())
        }

    def _steps(self, before: list[_Step], after: list[_Step]) -> Iterator[str]:
        matches = SequenceMatcher(None, before, after, autojunk=False)
        for kind, old, old_end, new, new_end in matches.get_opcodes():
            if kind == "equal":
                continue
            both = min(old_end - old, new_end - new)
            for offset in range(both):
                yield from self._step(before[old + offset], after[new + offset], new + offset + 1)
            for place in range(old + both, old_end):
                yield f"step {place + 1} removed: {self._shown(before[place])}"
            for place in range(new + both, new_end):
                yield f"step {place + 1} added: {self._shown(after[place])}"

    def _step(self, before: _Step, after: _Step, number: int) -> Iterator[str]:
        if before.type != after.type:
            yield f"step {number}: {self._shown(before)} → {self._shown(after)}"
            return
        yield from (f"step {number}: key {self._key(key)} added" for key in after.keys if key not in before.keys)
        yield from (f"step {number}: key {self._key(key)} removed" for key in before.keys if key not in after.keys)
        if [key for key in before.keys if key in after.keys] != [key for key in after.keys if key in before.keys]:
            yield f"step {number}: keys now in the order {self._listed(after.keys)}"
        if before.strategy != after.strategy:
            yield f"step {number}: keys chosen by {before.strategy} → {after.strategy}"
        weights = dict(zip(before.keys, before.weights, strict=True))
        for key, weight in zip(after.keys, after.weights, strict=True):
            if weights.get(key, weight) != weight:
                yield f"step {number}: weight of key {self._key(key)} {weights[key]} → {weight}"

    def _shown(self, step: _Step) -> str:
        return "managed inference" if step.type == MANAGED else f"keys {self._listed(step.keys)}"

    # ── names ──

    def _listed(self, keys: tuple[str, ...]) -> str:
        return ", ".join(self._key(key) for key in keys)

    def _key(self, key_id: str) -> str:
        """A key's name, with its ID if several keys have the same name; its ID alone if the name is unknown."""
        name = self._names.get(key_id)
        if not name:
            return key_id
        named = [key for key, other in self._names.items() if other == name and key.startswith(_KEY_LEAD)]
        return f"‘{name}’" if len(named) == 1 else f"‘{name}’ ({key_id})"

    def _by_provider_id(self, entry: str) -> str:
        """A provider or model entry with its provider's `providerId` in the place of an `aigp_…` ID."""
        for separator in (":", "/"):
            head, found, rest = entry.partition(separator)
            if head in self._names:
                return f"{self._names[head]}{found}{rest}"
        return entry


def _quoted(text: str | None) -> str:
    return "none" if text is None else f"‘{text}’"


def _scope(entries: list[str] | None) -> str:
    if entries is None:
        return "everything allowed"
    if not entries:
        return "nothing allowed"
    more = len(entries) - _MOST_SHOWN
    return f"only {', '.join(entries[:_MOST_SHOWN])}" + (f" and {more} more" if more > 0 else "")


def _in_order(before: list[str], after: list[str]) -> set[str]:
    """The subjects that did not move: those in blocks that have the same order in both lists."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return {subject for block in blocks for subject in before[block.a : block.a + block.size]}
