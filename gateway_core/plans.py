"""What the policy answers: a plan of attempts, or a denial with its reason; and what `explain` shows of each candidate.

Source: docs/decisions/0010-policy.md.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final, NamedTuple


class KeySource(StrEnum):
    """The owner of the key that an attempt sends upstream: the account, the operator (managed inference), or nobody."""

    USER = "user"
    MANAGED = "ngrok"
    NONE = "none"


class Strategy(StrEnum):
    """How a request chooses among the keys of a step: the order in which it tries them."""

    # As the step lists them.
    ORDERED = "ordered"
    # At random, by their weights.
    WEIGHTED = "weighted"
    # The one with the fewest attempts under way in the worker first.
    LEAST_BUSY = "leastBusy"
    # The same one for what belongs together.
    STICKY = "sticky"


class DecidedBy(StrEnum):
    """The source of a candidate's credentials: a rule for its model, a rule for its provider, or the default."""

    MODEL_RULE = "model_rule"
    PROVIDER_RULE = "provider_rule"
    DEFAULT = "default"


class DenialCode(StrEnum):
    """Why a candidate or a request is denied: the slugs of docs/errors.md.

    The order matters: the last ones came nearest to being allowed, and `resolve` reports the nearest.
    """

    PROVIDER_UNKNOWN = "provider_unknown"
    MODEL_UNKNOWN = "model_unknown"
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    SURFACE_NOT_SERVED = "surface_not_served"
    NO_CREDENTIALS = "no_credentials"
    NO_CREDITS = "no_credits"


class Candidate(NamedTuple):
    """A provider and one of its models that could serve one of the requested names."""

    requested: str
    provider: str
    # The name as it is forwarded: the provider's own spelling, or the request's where the catalog does not list it.
    model: str


def place_of(decided_by: DecidedBy, rule: int | None, step: int | None = None) -> str:
    """The JSON path of a rule, or of one of its steps; `default` where no rule matched."""
    if decided_by is DecidedBy.DEFAULT or rule is None:
        return "default"
    return f"router.rules[{rule}]" if step is None else f"router.rules[{rule}].steps[{step}]"


class Attempt(NamedTuple):
    """One call of an upstream in a plan."""

    provider: str
    model: str
    source: KeySource
    # `aigpk_…` where the source is `user`.
    provider_key: str | None
    decided_by: DecidedBy
    # The index of the rule in the router and of the step in the rule, from 0; None for the default.
    rule: int | None
    step: int | None
    # The index of the candidate, from 0. When an upstream refuses the request itself (4xx), the next candidate is
    # tried.
    candidate: int
    # Of its step, and of its key in it.
    strategy: Strategy = Strategy.ORDERED
    weight: int = 1

    @property
    def source_of_key(self) -> tuple[int, int | None, int | None]:
        """Its candidate, and the rule and the step that give its key."""
        return self.candidate, self.rule, self.step

    @property
    def credentials_from(self) -> str:
        """The JSON path of the step that gives its credentials, or `default`."""
        return place_of(self.decided_by, self.rule, self.step)


class Skipped(NamedTuple):
    """A candidate, or one step of a candidate, that the plan leaves out."""

    requested: str
    provider: str | None
    model: str | None
    code: DenialCode
    message: str
    step: int | None = None


class Group(NamedTuple):
    """The attempts of a plan from `start` up to `end`, of one step that does not take its keys in order."""

    start: int
    end: int
    strategy: Strategy


def groups_of(attempts: Sequence[Attempt]) -> tuple[Group, ...]:
    """The groups of attempts in the order of their plan."""
    groups: list[Group] = []
    start = 0
    for (_, _, step), members in groupby(attempts, lambda attempt: attempt.source_of_key):
        end = start + len(list(members))
        strategy = attempts[start].strategy
        if step is not None and strategy is not Strategy.ORDERED and end - start > 1:
            groups.append(Group(start, end, strategy))
        start = end
    return tuple(groups)


class Plan(NamedTuple):
    """The attempts to make, in order (at least one), and the candidates and steps that were left out.

    Each request brings the attempts of a group into an order of its own. Such a step is in the plan whole, though the
    request may not make as many attempts.
    """

    attempts: tuple[Attempt, ...]
    skipped: tuple[Skipped, ...]
    # Whether there would be more attempts than a request may make.
    is_cut: bool = False
    # The candidates without an attempt, as `rejected_models` writes them.
    rejected: str = ""
    groups: tuple[Group, ...] = ()

    def of(self, attempts: tuple[Attempt, ...]) -> "Plan":
        """The plan with some of its attempts alone, in their order."""
        return self._replace(attempts=attempts, groups=groups_of(attempts) if self.groups else ())


class Verdict(NamedTuple):
    """The decision about one candidate, and the places in the configuration that decided it, as indexes from 0."""

    candidate: Candidate
    # Why it was left out before credentials were looked up; None where it is allowed and served.
    refusal: Skipped | None
    # The index of the scope entry that allows it; None where the scope does not restrict providers (or models), and
    # where no entry allows it.
    provider_entry: int | None
    model_entry: int | None
    decided_by: DecidedBy
    rule: int | None


class Denial(NamedTuple):
    """The request may not make an attempt. Code and message are those of the candidate that came nearest."""

    code: DenialCode
    message: str
    skipped: tuple[Skipped, ...]
    # As in a plan.
    rejected: str = ""


# In a header: so many candidates, and so much of each name.
_MOST_REJECTED: Final = 10
_SHOWN_CHARACTERS: Final = 100
_NOT_PRINTABLE: Final = re.compile(r"[^ -~]")


def rejected_models(skipped: Iterable[Skipped], served: Collection[tuple[str, str]] = ()) -> str:
    """The candidates that a plan leaves out, as the header `gateway-rejected-models` has them.

    Args:
        skipped: what was left out, steps too.
        served: (provider, model) of the candidates that have an attempt.

    Returns:
        A list of RFC 9651: `"openai:o3";code=model_not_allowed`, at most 10; empty where there is none.
    """
    found: dict[str, str] = {}
    for one in skipped:
        if one.provider is None or one.model is None:
            found.setdefault(one.requested, one.code)
        elif (one.provider, one.model) not in served:
            found.setdefault(f"{one.provider}:{one.model}", one.code)
        if len(found) == _MOST_REJECTED:
            break
    return ", ".join(f"{_quoted(name)};code={code}" for name, code in found.items())


def _quoted(name: str) -> str:
    text = _NOT_PRINTABLE.sub("?", name[:_SHOWN_CHARACTERS])
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
