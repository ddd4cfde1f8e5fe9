"""Describes in words what a configuration allows, and what its access keys would lose by a change.

This module decides nothing: gateway_core.policy decides what may be reached. It describes the inputs of the policy. All
functions are pure except `ProviderNames.of`.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from accounts.models import Account
from configurations import router as routers
from configurations import scope as scopes
from gateway_core.catalog import BUILT_IN, model_key
from gateway_core.snapshot import Rule
from providers.models import Provider
from providers.provider_names import KnownProviders

# At most so many entries of a list are named; the rest is counted.
_MOST_NAMED: Final = 4


class ProviderNames:
    """The display names of the providers that an account can use."""

    def __init__(self, custom: Iterable[tuple[uuid.UUID, str, str]] = ()) -> None:
        """Take the account's custom providers, as (ID, `providerId`, name)."""
        rows = list(custom)
        self.known = KnownProviders((identity, slug) for identity, slug, _ in rows)
        self._names = {slug: name for _, slug, name in rows}

    @classmethod
    def of(cls, account: Account) -> "ProviderNames":
        """The present names of an account's providers. One query."""
        return cls(Provider.objects.filter(account=account).order_by("id").values_list("id", "slug", "name"))

    def slug(self, name: str) -> str:
        """The `providerId` of a name that may be an `aigp_…` ID. Any other text is returned unchanged."""
        return self.known.find(name) or name

    def called(self, name: str) -> str:
        """The display name, as OpenAI for `openai`. The name of a deleted provider is returned as it was written."""
        slug = self.slug(name)
        return BUILT_IN[slug].display_name if slug in BUILT_IN else self._names.get(slug, slug)


class Allowance(NamedTuple):
    """What an access scope allows, in a sentence."""

    sentence: str
    # Whether it refuses every request. The editor warns about that.
    is_nothing: bool


def allowance(access: dict[str, Any] | None, names: ProviderNames) -> Allowance:
    """Describe an `access` in one sentence."""
    scope = scopes.compile_scope(access, names.slug)
    if scope.providers == () or scope.models == ():
        what = "provider" if scope.providers == () else "model"
        return Allowance(f"Nothing: no {what} is allowed, so every request is refused.", is_nothing=True)
    providers = None if scope.providers is None else listed([names.called(entry) for entry in scope.providers])
    models = None if scope.models is None else listed([_model(*entry) for entry in scope.models])
    if providers is None and models is None:
        return Allowance("Everything: every provider and every model.", is_nothing=False)
    if models is None:
        return Allowance(f"Every model of {providers}.", is_nothing=False)
    where = "" if providers is None else f", and only at {providers}"
    return Allowance(f"Only {models}{where}.", is_nothing=False)


def losses(before: tuple[Any, Any], after: tuple[Any, Any], names: ProviderNames) -> list[str]:
    """What the access keys of a configuration would lose by a change: models, or the credentials for them.

    Args:
        before: the stored `access` and `router`.

        after: the new `access` and `router`, already validated. It may still hold inline keys.
        names: the names of the account's providers.

    Returns:
        A sentence for each loss; an empty list where nothing is lost.
    """
    old, new = (scopes.compile_scope(access, names.slug) for access, _ in (before, after))
    called = names.called
    return [
        *_lost("provider", _by_key(old.providers, str, called), _by_key(new.providers, str, called)),
        *_lost("model", _by_key(old.models, _model_key, _model_of), _by_key(new.models, _model_key, _model_of)),
        *_lost_rules(_rules(before[1], names), _rules(after[1], names), names),
    ]


def listed(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`, `A, B, C, D and 7 more`."""
    shown = list(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        shown.append(f"{len(names) - _MOST_NAMED} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _model(provider: str, model: str) -> str:
    return f"{provider}:{model}" if provider else model


def _model_of(entry: tuple[str, str]) -> str:
    return _model(*entry)


def _model_key(entry: tuple[str, str]) -> tuple[str, str]:
    provider, model = entry
    return provider, model_key(provider, model) if provider else model.casefold()


def _by_key(entries: Any, key: Any, called: Any) -> dict[Any, str] | None:
    return None if entries is None else {key(entry): called(entry) for entry in entries}


def _lost(what: str, before: dict[Any, str] | None, after: dict[Any, str] | None) -> list[str]:
    if after is None:
        return []
    gone = None if before is None else [name for key, name in before.items() if key not in after]
    if gone == []:
        return []
    if not after:
        return [f"No {what} is allowed any more: every request is refused."]
    if gone is None:
        return [
            f"Of the {what}s only {listed(list(after.values()))} may still be reached; until now every {what} could."
        ]
    return [f"{listed(gone)} {'is' if len(gone) == 1 else 'are'} no longer allowed."]


def _rules(router: dict[str, Any] | None, names: ProviderNames) -> dict[tuple[str, str | None], Rule]:
    """The rules by (provider, model). A key that is not stored yet has no ID; none is needed here."""
    found = {}
    stored = None if router is None else {"rules": [_without_keys(rule) for rule in router["rules"]]}
    for rule in routers.compile_rules(stored, names.slug):
        found[rule.provider, None if rule.model is None else model_key(rule.provider, rule.model)] = rule
    return found


def _without_keys(rule: dict[str, Any]) -> dict[str, Any]:
    return {**rule, "steps": [{"type": step["type"]} for step in rule["steps"]]}


def _lost_rules(
    before: dict[tuple[str, str | None], Rule], after: dict[tuple[str, str | None], Rule], names: ProviderNames
) -> list[str]:
    sentences = []
    for (provider, model), rule in before.items():
        # A model without a rule of its own follows the rule of its provider.
        if (provider, model) in after or (model is not None and (provider, None) in after):
            continue
        subject = names.called(provider) if rule.model is None else f"{provider}:{rule.model}"
        if routers.is_managed(provider):
            left = "only managed inference is left for it"
        elif provider in BUILT_IN:
            left = "nothing gives it credentials"
        else:
            left = "it is called without credentials"
        sentences.append(f"{subject} has no rule any more: {left}.")
    return sentences
