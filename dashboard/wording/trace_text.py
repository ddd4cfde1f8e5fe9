"""A request's trace as texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dashboard.wording.json_places import place
from dashboard.wording.scope_summary import ProviderNames
from gateway_core.plans import DenialCode
from gateway_core.traces import Completion, CoolingCause, RetryAction
from usage.traces import NotTried, TracedAttempt

_COMPLETIONS: Final = {
    Completion.SUCCEEDED: "Answered",
    Completion.FAILED: "Failed",
    Completion.TIMED_OUT: "Timed out",
    Completion.STREAM_FAILED: "Broke off after a part of the answer had gone to the caller",
    Completion.UNKNOWN: "How it ended is not known",
}
_ACTIONS: Final = {
    RetryAction.NEXT_KEY: "then the next key",
    RetryAction.NEXT_BACKEND: "then another provider or model",
    RetryAction.MANAGED_FALLBACK: "then managed inference",
    RetryAction.FAIL_FAST: "then nothing more was tried",
    RetryAction.EXHAUSTED: "nothing was left to try",
}
_DENIALS: Final[Mapping[str, str]] = {
    DenialCode.PROVIDER_UNKNOWN: "The provider is not known.",
    DenialCode.MODEL_UNKNOWN: "The model is not known.",
    DenialCode.PROVIDER_NOT_ALLOWED: "The configuration does not allow the provider.",
    DenialCode.MODEL_NOT_ALLOWED: "The configuration does not allow the model.",
    DenialCode.SURFACE_NOT_SERVED: "The provider does not serve this API.",
    DenialCode.NO_CREDENTIALS: "There were no credentials for it.",
    DenialCode.NO_CREDITS: "There were no credits for managed inference.",
}
CAUSES: Final[Mapping[str, str]] = {
    CoolingCause.KEY_REFUSED: "the upstream refused the key",
    CoolingCause.RATE_LIMITED: "the upstream asked to wait",
    CoolingCause.FAILING: "most attempts with it failed",
}


@dataclass(frozen=True)
class ShownNotTried:
    """Something that was passed over, and why."""

    subject: str
    # The name of the key that cooled, or its ID; empty for a candidate.
    key: str
    why: str
    # Since when the key cooled.
    since: datetime | None


def of_attempt(traced: TracedAttempt) -> str:
    """How an attempt ended, what followed, and what gave its credentials; empty where the worker did not say."""
    if traced.trace is None:
        return ""
    action = _ACTIONS.get(traced.retry_action) if traced.retry_action else None
    ended = ", ".join(filter(None, (_COMPLETIONS[traced.completion], action)))
    return f"{ended}. Credentials: {place(traced.credentials_from)}." if traced.credentials_from else f"{ended}."


def not_tried(one: NotTried, names: ProviderNames, keys: Mapping[str, str]) -> ShownNotTried:
    """Put what was passed over into words.

    Args:
        one: the candidate or the key.
        names: of the account's providers.
        keys: names of provider keys by ID.
    """
    subject = f"{names.called(one.provider)} · {one.model}" if one.provider else one.model
    key = keys.get(one.provider_key_id, one.provider_key_id) if one.provider_key_id else ""
    if one.since is not None:
        return ShownNotTried(subject, key, CAUSES.get(one.cause or "", "the worker did not say why"), one.since)
    return ShownNotTried(subject, key, _DENIALS.get(one.reason, one.reason), None)
