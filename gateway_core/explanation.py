"""Explains in words what the data plane would do with a request, and why.

This module decides nothing. `explain` calls `gateway_core.policy` and names the places in the configuration that
decided, as JSON paths of the contract (`router.rules[1]`).

Source: contract, section 8; docs/decisions/0012-explain.md.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec

from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import BUILT_IN, Catalog, Surface
from gateway_core.dialects import parameters_not_taken
from gateway_core.plans import Attempt, Denial, DenialCode, KeySource, Skipped, Strategy, Verdict, place_of
from gateway_core.policy import MOST_ATTEMPTS, judge, resolve

# The code for a plan whose attempts are all assumed to fail. The data plane sends the same code with a 502.
ALL_ATTEMPTS_FAILED: Final = "attempts_failed"


class Suggestion(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The nearest change that would let a refused candidate through."""

    # What to do, as a sentence.
    msg: str
    # The place in the configuration or in the request, and the value to put there.
    path: str | None = None
    add: str | None = None


class ExplainedCandidate(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A provider and model that the request could mean, and the decision about it."""

    requested: str
    is_allowed: bool
    provider: str | None = None
    model: str | None = None
    # The scope entries that allow it; empty where the scope restricts nothing.
    allowed_by: tuple[str, ...] = ()
    # The JSON path of the rule whose steps give the credentials, or `default`.
    credentials_from: str | None = None
    error_code: str | None = None
    msg: str | None = None
    change: Suggestion | None = None


class CoolingAt(msgspec.Struct, frozen=True, rename="camel"):
    """A worker that passes an attempt's key over for its model, unless the attempt is the last one."""

    worker_id: str
    # A word of gateway_core.traces.CoolingCause.
    cause: str
    since: datetime
    until: datetime


class ExplainedAttempt(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One call that would be made upstream, if those before it failed."""

    attempt_number: int
    provider: str
    model: str
    key_source: KeySource
    credentials_from: str
    provider_key_id: str | None = None
    key_redacted: str | None = None
    # The parameters that are left out for this model or sent under another name, if the request has them.
    removed_params: tuple[str, ...] | None = None
    # Of a step that does not take its keys in order: each request brings them into an order of its own.
    key_selection_strategy: Strategy | None = None
    # Filled in by who can ask the workers.
    cooling: tuple[CoolingAt, ...] | None = None
    # `fails` (assumed), `answers`, or `isNotReached`.
    outcome: str


class ExplainedStep(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A step that is skipped although its candidate is allowed."""

    provider: str
    model: str
    error_code: str
    msg: str
    path: str | None = None


class Explanation(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The whole answer. A refusal has `error_code`, `msg` and, where there is one, `change`."""

    is_allowed: bool
    surface: Surface
    candidates: tuple[ExplainedCandidate, ...]
    attempts: tuple[ExplainedAttempt, ...]
    skipped_steps: tuple[ExplainedStep, ...]
    error_code: str | None = None
    msg: str | None = None
    change: Suggestion | None = None


def explain(
    account: AccountSnapshot,
    catalog: Catalog,
    *,
    configuration: str | None,
    requested: Sequence[str],
    surface: Surface,
    failing: Collection[str] = (),
    most_attempts: int = MOST_ATTEMPTS,
) -> Explanation:
    """Explain what `resolve` decides, and what would happen next.

    Args:
        account, catalog, configuration, requested, surface, most_attempts: as for `resolve`.
        failing: `aigpk_…` IDs and provider IDs whose calls are assumed to fail in a way that leads to a failover.

    Raises:
        SnapshotIncomplete: as `resolve`.
    """
    answer = resolve(
        account,
        catalog,
        configuration=configuration,
        requested=requested,
        surface=surface,
        most_attempts=most_attempts,
    )
    verdicts = judge(account, catalog, configuration=configuration, requested=requested, surface=surface)
    words = _Words(account, catalog, configuration)
    attempts = () if isinstance(answer, Denial) else words.attempts(answer.attempts, failing, surface)
    refused = {
        (skipped.requested, skipped.provider, skipped.model): skipped
        for skipped in answer.skipped
        if skipped.step is None
    }
    explanation = Explanation(
        is_allowed=not isinstance(answer, Denial),
        surface=surface,
        candidates=tuple(words.candidate(verdict, refused) for verdict in verdicts),
        attempts=attempts,
        skipped_steps=tuple(words.step(skipped, verdicts) for skipped in answer.skipped if skipped.step is not None),
    )
    if isinstance(answer, Denial):
        decisive = next(skipped for skipped in answer.skipped if skipped.code is answer.code)
        return msgspec.structs.replace(
            explanation, error_code=answer.code, msg=answer.message, change=words.change(decisive)
        )
    if all(attempt.outcome == "fails" for attempt in attempts):
        return msgspec.structs.replace(
            explanation, error_code=ALL_ATTEMPTS_FAILED, msg="Every attempt is assumed to fail."
        )
    return explanation


class _Words:
    def __init__(self, account: AccountSnapshot, catalog: Catalog, configuration: str | None) -> None:
        self.account = account
        self.catalog = catalog
        self.configuration = configuration

    def candidate(
        self, verdict: Verdict | Skipped, refused: dict[tuple[str, str | None, str | None], Skipped]
    ) -> ExplainedCandidate:
        if isinstance(verdict, Skipped):
            return self._refused(verdict)
        requested, provider, model = verdict.candidate
        refusal = verdict.refusal or refused.get((requested, provider, model))
        if refusal is not None:
            return self._refused(refusal)
        entries = (("providers", verdict.provider_entry), ("models", verdict.model_entry))
        return ExplainedCandidate(
            requested=requested,
            provider=provider,
            model=model,
            is_allowed=True,
            allowed_by=tuple(f"access.{kind}.allow[{place}]" for kind, place in entries if place is not None),
            credentials_from=place_of(verdict.decided_by, verdict.rule),
        )

    def _refused(self, refusal: Skipped) -> ExplainedCandidate:
        return ExplainedCandidate(
            requested=refusal.requested,
            provider=refusal.provider,
            model=refusal.model,
            is_allowed=False,
            error_code=refusal.code,
            msg=refusal.message,
            change=self.change(refusal),
        )

    def _removed(self, attempt: Attempt, surface: Surface) -> tuple[str, ...]:
        custom = self.account.providers.get(attempt.provider)
        rules = parameters_not_taken(custom.dialect if custom else attempt.provider, attempt.model, surface).rules
        # Those that depend on the rest of the request are not known here.
        known = [rule for rule in rules if not (rule.beside or rule.if_reasoning)]
        return tuple(name for rule in known for name in (*rule.removed, *(old for old, _ in rule.renamed)))

    def attempts(
        self, attempts: Sequence[Attempt], failing: Collection[str], surface: Surface
    ) -> tuple[ExplainedAttempt, ...]:
        explained = []
        is_answered = False
        for number, attempt in enumerate(attempts, start=1):
            fails = attempt.provider in failing or (attempt.provider_key or "") in failing
            outcome = "isNotReached" if is_answered else "fails" if fails else "answers"
            is_answered = is_answered or not fails
            key = self.account.provider_keys.get(attempt.provider_key or "")
            explained.append(
                ExplainedAttempt(
                    attempt_number=number,
                    provider=attempt.provider,
                    model=attempt.model,
                    key_source=attempt.source,
                    credentials_from=attempt.credentials_from,
                    provider_key_id=attempt.provider_key,
                    key_redacted=key.mask if key else None,
                    removed_params=self._removed(attempt, surface) or None,
                    key_selection_strategy=None if attempt.strategy is Strategy.ORDERED else attempt.strategy,
                    outcome=outcome,
                )
            )
        return tuple(explained)

    @staticmethod
    def step(skipped: Skipped, verdicts: Sequence[Verdict | Skipped]) -> ExplainedStep:
        place = next(
            (
                place_of(verdict.decided_by, verdict.rule, skipped.step)
                for verdict in verdicts
                if isinstance(verdict, Verdict) and verdict.candidate[1:] == (skipped.provider, skipped.model)
            ),
            None,
        )
        return ExplainedStep(
            provider=skipped.provider or "",
            model=skipped.model or "",
            error_code=skipped.code,
            msg=skipped.message,
            path=place,
        )

    def change(self, refusal: Skipped) -> Suggestion | None:
        """The nearest change that would let this candidate be served, or None where there is none."""
        provider, model = refusal.provider, refusal.model
        if provider is None or model is None:
            near = self.catalog.nearest_models(refusal.requested)
            return Suggestion(f"Ask for {near[0]} instead.", path="model", add=near[0]) if near else None
        match refusal.code:
            case DenialCode.PROVIDER_NOT_ALLOWED:
                return Suggestion(f"Allow the provider {provider}.", path="access.providers.allow", add=provider)
            case DenialCode.MODEL_NOT_ALLOWED:
                return Suggestion(
                    f"Allow the model {provider}:{model}.", path="access.models.allow", add=f"{provider}:{model}"
                )
            case DenialCode.SURFACE_NOT_SERVED:
                return Suggestion(
                    f"Use a surface that {provider} serves: {', '.join(self._surfaces(provider))}.", path="surface"
                )
            case DenialCode.NO_CREDITS:
                return Suggestion(
                    "Buy credits, or route this provider to a provider key of your own.", path="router.rules"
                )
            case DenialCode.NO_CREDENTIALS:
                return self._credentials_change(provider)
            case _:
                return None

    def _credentials_change(self, provider: str) -> Suggestion:
        stored = self.account.keys_of.get(provider, ())
        if not stored:
            after = " and route to it in the configuration" if self.configuration else ""
            return Suggestion(f"Store a provider key for {provider}{after}.", path="provider-keys", add=provider)
        return Suggestion(
            f"Add a rule for {provider} with a `user` step that names a stored key of it.",
            path="router.rules",
            add=next(iter(stored)),
        )

    def _surfaces(self, provider: str) -> list[str]:
        if custom := self.account.providers.get(provider):
            return [support.surface for support in custom.surfaces]
        return list(BUILT_IN[provider].surfaces)
