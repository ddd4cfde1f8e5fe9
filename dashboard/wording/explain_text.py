"""The answers of `explain` as texts: the same facts, with names for IDs and places for JSON paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dashboard.wording.json_places import place
from dashboard.wording.scope_summary import ProviderNames
from dashboard.wording.trace_text import CAUSES
from gateway_core.explanation import ExplainedAttempt, ExplainedCandidate, ExplainedStep, Explanation, Suggestion
from gateway_core.plans import KeySource, Strategy

_OUTCOMES: Final = {"answers": "answers", "fails": "assumed to fail", "isNotReached": "only if those before it fail"}

_STRATEGIES: Final[Mapping[str, str]] = {
    Strategy.WEIGHTED: ", at random by weight",
    Strategy.LEAST_BUSY: ", the least busy first",
    Strategy.STICKY: ", the same for what belongs together",
}


@dataclass(frozen=True)
class ShownAttempt:
    """One call that would be made upstream."""

    number: int
    provider: str
    model: str
    credentials: str
    # The mask of the provider key; empty with managed inference and without credentials.
    mask: str
    # The place in the configuration that decided: "rule 2, step 1".
    decided: str
    # The parameters that do not go to this model as they are: "temperature, top_p"; empty where all do.
    removed: str
    outcome: str
    # How many workers pass it over now, and why; empty where none does.
    cooling: str
    # The earliest moment since when one of them does.
    cooling_since: datetime | None
    # The ID that `assume.failing` needs to make this attempt fail; empty where it cannot fail, or fails already.
    failing: str


@dataclass(frozen=True)
class ShownRefusal:
    """A candidate or a step that is not tried, the reason, and the change that would let it be tried."""

    subject: str
    why: str
    # The place in the configuration that decided; empty where there is none.
    place: str
    change: str


@dataclass(frozen=True)
class ShownPlan:
    """The whole answer, as texts for the page."""

    is_allowed: bool
    verdict: str
    change: str
    attempts: tuple[ShownAttempt, ...]
    refused: tuple[ShownRefusal, ...]
    skipped: tuple[ShownRefusal, ...]
    # A sentence for each allowed candidate.
    reasons: tuple[str, ...]


def shown_plan(explanation: Explanation, names: ProviderNames) -> ShownPlan:
    """Put an explanation into words."""
    allowed = [candidate for candidate in explanation.candidates if candidate.is_allowed]
    return ShownPlan(
        is_allowed=explanation.is_allowed,
        verdict=_verdict(explanation),
        change=_change(explanation.change),
        attempts=tuple(_attempt(attempt, names) for attempt in explanation.attempts),
        refused=tuple(_candidate(candidate, names) for candidate in explanation.candidates if not candidate.is_allowed),
        skipped=tuple(_step(step, names) for step in explanation.skipped_steps),
        reasons=tuple(_reason(candidate) for candidate in allowed),
    )


def _verdict(explanation: Explanation) -> str:
    if not explanation.is_allowed:
        return explanation.msg or "Refused."
    count = len(explanation.attempts)
    if explanation.msg:
        return explanation.msg
    return "One attempt, without failover." if count == 1 else f"Up to {count} attempts, in this order."


def _attempt(attempt: ExplainedAttempt, names: ProviderNames) -> ShownAttempt:
    if attempt.key_source is KeySource.MANAGED:
        credentials = "managed inference"
    else:
        credentials = "provider key" if attempt.provider_key_id else "without credentials"
    return ShownAttempt(
        number=attempt.attempt_number,
        provider=names.called(attempt.provider),
        model=attempt.model,
        credentials=credentials,
        mask=attempt.key_redacted or "",
        decided=place(attempt.credentials_from) + _STRATEGIES.get(attempt.key_selection_strategy or "", ""),
        removed=", ".join(attempt.removed_params or ()),
        outcome=_OUTCOMES[attempt.outcome],
        cooling=_cooling(attempt),
        cooling_since=min((one.since for one in attempt.cooling or ()), default=None),
        failing=(attempt.provider_key_id or attempt.provider) if attempt.outcome == "answers" else "",
    )


def _cooling(attempt: ExplainedAttempt) -> str:
    if not attempt.cooling:
        return ""
    causes = " and ".join(sorted({CAUSES.get(one.cause, one.cause) for one in attempt.cooling}))
    count = len(attempt.cooling)
    return f"at {count} worker{'s' if count > 1 else ''}: {causes}"


def _candidate(candidate: ExplainedCandidate, names: ProviderNames) -> ShownRefusal:
    subject = candidate.requested
    if candidate.provider and candidate.model:
        subject = f"{names.called(candidate.provider)} · {candidate.model}"
    return ShownRefusal(subject, candidate.msg or "", "", _change(candidate.change))


def _step(step: ExplainedStep, names: ProviderNames) -> ShownRefusal:
    return ShownRefusal(f"{names.called(step.provider)} · {step.model}", step.msg, place(step.path or ""), "")


def _reason(candidate: ExplainedCandidate) -> str:
    entries = " and ".join(place(path) for path in candidate.allowed_by) or "the scope, which restricts nothing here"
    return f"{candidate.provider}:{candidate.model} is allowed by {entries}."


def _change(change: Suggestion | None) -> str:
    return "" if change is None else change.msg
