"""The policy: which attempts a request may make, in which order and with which key; or the reason why it may not.

One pure function decides: `resolve`. The data plane carries out its plan, and `explain` shows it. Nothing else in this
project decides which provider or model an access key may reach.

Source: contract, sections 3 and 9; docs/decisions/0010-policy.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Final, NamedTuple

from gateway_core.account_snapshot import AccountSnapshot, CompiledConfiguration
from gateway_core.catalog import ALIASES, BUILT_IN, Catalog, Surface, built_in_model, model_key, nearest_providers
from gateway_core.plans import (
    Attempt,
    Candidate,
    DecidedBy,
    Denial,
    DenialCode,
    KeySource,
    Plan,
    Skipped,
    Strategy,
    Verdict,
    groups_of,
    rejected_models,
)
from gateway_core.snapshot import Rule
from gateway_core.upstream_requests import fits_path


class SnapshotIncomplete(Exception):
    """The snapshot names an object that it does not contain, so nothing can be decided (503, never a denial)."""


# The attempts of one request, where the operator did not set another bound.
MOST_ATTEMPTS: Final = 16
# The model names of one request.
MOST_MODELS: Final = 16
_SHOWN_CHARACTERS: Final = 100
_MODELS_AT_ONCE: Final = 100
_Made = tuple[str, str, str | None]
_STRATEGIES: Final = frozenset(Strategy)
_NEARNESS: Final = {code: place for place, code in enumerate(DenialCode)}


def resolve(
    account: AccountSnapshot,
    catalog: Catalog,
    *,
    configuration: str | None,
    requested: Sequence[str],
    surface: Surface,
    most_attempts: int = MOST_ATTEMPTS,
) -> Plan | Denial:
    """Decide which attempts a request may make.

    Args:
        account: the snapshot of the access key's account.
        catalog: the built-in providers with their models.
        configuration: the `aigac_…` ID that the access key is linked to, or None for a key without one.
        requested: the model names of the request in order, at least one.
        surface: the API that the request came to.
        most_attempts: where the plan ends. What lies behind is not looked at.

    Returns:
        A plan with each (provider, model, key) at most once, or the denial with its reason.

    Raises:
        SnapshotIncomplete: the configuration, or a key that a rule names, is not in the snapshot.
    """
    view = _View(account, catalog, _configuration(account, configuration))
    skipped: list[Skipped] = []
    attempts: dict[_Made, Attempt] = {}
    candidates: dict[tuple[str, str], Candidate] = {}
    for name in requested:
        found = view.candidates(name)
        if isinstance(found, Skipped):
            skipped.append(found)
            continue
        for candidate in found:
            candidates.setdefault((candidate.provider, candidate.model), candidate)
    for place, candidate in enumerate(candidates.values()):
        refusal = view.scope_refusal(candidate) or view.surface_refusal(candidate, surface)
        if refusal is not None:
            skipped.append(refusal)
            continue
        for outcome in view.attempts(candidate, place):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
                continue
            key = (outcome.provider, outcome.model, outcome.provider_key)
            if len(attempts) >= most_attempts and key not in attempts and not _goes_on(attempts, outcome):
                return _plan(attempts, skipped, is_cut=True)
            attempts.setdefault(key, outcome)
    if attempts:
        return _plan(attempts, skipped, is_cut=len(attempts) > most_attempts)
    nearest = max(skipped, key=lambda refusal: _NEARNESS[refusal.code])
    message = view.with_suggestions(nearest).message
    return Denial(nearest.code, message, tuple(skipped), rejected_models(skipped))


def _plan(attempts: dict[_Made, Attempt], skipped: Sequence[Skipped], *, is_cut: bool) -> Plan:
    found = tuple(attempts.values())
    served = {(attempt.provider, attempt.model) for attempt in found}
    return Plan(found, tuple(skipped), is_cut, rejected_models(skipped, served), groups_of(found))


def _goes_on(attempts: dict[_Made, Attempt], one: Attempt) -> bool:
    """Whether an attempt belongs to a step that a plan holds whole, and that it has begun with."""
    return one.strategy is not Strategy.ORDERED and list(attempts.values())[-1].source_of_key == one.source_of_key


def judge(
    account: AccountSnapshot,
    catalog: Catalog,
    *,
    configuration: str | None,
    requested: Sequence[str],
    surface: Surface,
) -> list[Verdict | Skipped]:
    """Explain the decision about each candidate of a request.

    `resolve` decides by the same steps; this function keeps the details. It has the same arguments and errors.

    Returns:
        A Verdict for each candidate, and a Skipped for each requested name that no provider serves.
    """
    view = _View(account, catalog, _configuration(account, configuration))
    return [
        view.with_suggestions(found) if isinstance(found, Skipped) else view.verdict(found, surface)
        for name in requested
        for found in _each(view.candidates(name))
    ]


def _each(found: list[Candidate] | Skipped) -> Sequence[Candidate | Skipped]:
    return [found] if isinstance(found, Skipped) else found


def reachable_models(
    account: AccountSnapshot, catalog: Catalog, *, configuration: str | None
) -> Iterator[list[tuple[str, str]]]:
    """Every (provider, model) that a key may reach and has credentials for, built-in providers first.

    Yields a list, which may be empty, for each few models that were looked at: a large account has many thousands, and
    others want their turn meanwhile. Where the snapshot changes meanwhile, the later lists are of the newer one.

    Raises:
        SnapshotIncomplete: as `resolve`.
    """
    view = _View(account, catalog, _configuration(account, configuration))
    # A name that an account's own provider shares with a built-in one is looked at once.
    for provider in dict.fromkeys((*BUILT_IN, *account.providers)):
        waiting = iter(view.served_models(provider))
        while models := tuple(islice(waiting, _MODELS_AT_ONCE)):
            yield [(provider, model) for model in models if view.is_reachable(provider, model)]


def _configuration(account: AccountSnapshot, configuration: str | None) -> CompiledConfiguration | None:
    if configuration is None:
        return None
    try:
        return account.configurations[configuration]
    except KeyError:
        raise SnapshotIncomplete(f"{configuration} is not in the snapshot") from None


def denotes_own_model(account: AccountSnapshot, catalog: Catalog, owner: str, own: str) -> bool:
    """Whether the open model ID `owner/own` means the model `own` of the provider `owner`, and not a reseller's model.

    This is so where `owner` is a provider that serves `own`, or where no provider is known to serve `owner/own`.
    """
    return _View(account, catalog, None).denotes_own_model(owner, own)


class _View(NamedTuple):
    """The data that one decision needs: an account, the catalog, and the configuration that applies."""

    account: AccountSnapshot
    catalog: Catalog
    # None for a key without a configuration.
    rules: CompiledConfiguration | None

    # ── what a requested name means (contract, section 9, "Model in the request") ──

    def candidates(self, name: str) -> list[Candidate] | Skipped:
        """The providers and models that a requested name means, in order."""
        head, colon, rest = name.partition(":")
        is_qualified = bool(colon and rest and "/" not in head)
        if is_qualified:
            provider, model = self.account.provider_ids.get(head, head), rest
            if provider not in self.account.providers:
                provider, model = built_in_model(head, rest)
            if self.is_provider(provider):
                return [Candidate(name, provider, self.spelling(provider, model))]
        owner, slash, own = name.partition("/")
        if slash and own and self.denotes_own_model(owner, own):
            provider = self.named(owner)
            return [Candidate(name, provider, self.spelling(provider, own))]
        if serving := self.serving(name):
            return [Candidate(name, provider, model) for provider, model in serving]
        if is_qualified:
            return Skipped(name, None, None, DenialCode.PROVIDER_UNKNOWN, _unknown("provider", head))
        return Skipped(name, None, None, DenialCode.MODEL_UNKNOWN, _unknown("model", name))

    def with_suggestions(self, refusal: Skipped) -> Skipped:
        """A refusal of an unknown name with the known names that look like it. It costs much more than the refusal."""
        near: Sequence[str] = ()
        if refusal.code is DenialCode.PROVIDER_UNKNOWN:
            near = nearest_providers(refusal.requested.partition(":")[0], self.account.providers)
        elif refusal.code is DenialCode.MODEL_UNKNOWN:
            near = self.catalog.nearest_models(refusal.requested)
        if not near:
            return refusal
        return refusal._replace(message=f"{refusal.message} Did you mean {' or '.join(near)}?")

    def is_provider(self, name: str) -> bool:
        return name in BUILT_IN or name in self.account.providers

    def named(self, name: str) -> str:
        """The provider that an alias means; any other name as it is."""
        return name if name in self.account.providers else ALIASES.get(name, name)

    def served_models(self, provider: str) -> Iterable[str]:
        if custom := self.account.providers.get(provider):
            return custom.models
        return (model.id for model in self.catalog.models(provider))

    def is_reachable(self, provider: str, model: str) -> bool:
        candidate = Candidate(model, provider, model)
        return self.scope_refusal(candidate) is None and any(
            isinstance(outcome, Attempt) for outcome in self.attempts(candidate, 0)
        )

    def denotes_own_model(self, owner: str, own: str) -> bool:
        provider = self.named(owner)
        if provider in self.account.providers:
            if self.account.spelling(provider, own) is not None:
                return True
        elif provider not in BUILT_IN:
            return False
        elif self.catalog.find(provider, own) is not None:
            return True
        return not self.serving(f"{owner}/{own}")

    def serving(self, name: str) -> list[tuple[str, str]]:
        found = self.catalog.serving(name)
        if not self.account.providers:
            return found
        # The account's own provider wins over a built-in one of the same name, as data_plane.forwarding.targets has it.
        built_in = [(provider, model) for provider, model in found if provider not in self.account.providers]
        return [*built_in, *self.account.serving(name)]

    def spelling(self, provider: str, model: str) -> str:
        if provider in self.account.providers:
            return self.account.spelling(provider, model) or model
        return self.catalog.spelling(provider, model) or model

    # ── whether a candidate is allowed ──

    def scope_refusal(self, candidate: Candidate) -> Skipped | None:
        rules = self.rules
        if rules is None:
            return None
        _, provider, model = candidate
        if rules.providers is not None and provider not in rules.providers:
            message = f"This access key's configuration does not allow the provider {provider}."
            return _skip(candidate, DenialCode.PROVIDER_NOT_ALLOWED, message)
        if rules.models is not None and self._model_entry(rules, provider, model) is None:
            message = f"This access key's configuration does not allow the model {provider}:{_shown(model)}."
            return _skip(candidate, DenialCode.MODEL_NOT_ALLOWED, message)
        return None

    def _model_entry(self, rules: CompiledConfiguration, provider: str, model: str) -> int | None:
        """The index of the scope entry that names this model, or None.

        An entry may be `provider:model`, the provider's own `provider/model`, or an open model ID.
        """
        key = model_key(provider, model)
        entry = (rules.models or {}).get((provider, key))
        if entry is not None or not rules.open_models:
            return entry
        for owner in (provider, *self.aliases_of(provider)):
            entry = rules.open_models.get(f"{owner}/{key}")
            if entry is not None and self.denotes_own_model(owner, key):
                return entry
        folded = model.casefold()
        entry = rules.open_models.get(folded)
        if entry is not None and not self.denotes_own_model(*_split_open_id(folded)):
            return entry
        return None

    def aliases_of(self, provider: str) -> tuple[str, ...]:
        if provider in self.account.providers or provider not in BUILT_IN:
            return ()
        return BUILT_IN[provider].aliases

    def verdict(self, candidate: Candidate, surface: Surface) -> Verdict:
        rules = self.rules
        decided_by, place, _ = self._rule(candidate)
        return Verdict(
            candidate,
            self.scope_refusal(candidate) or self.surface_refusal(candidate, surface),
            None if rules is None or rules.providers is None else rules.providers.get(candidate.provider),
            None
            if rules is None or rules.models is None
            else self._model_entry(rules, candidate.provider, candidate.model),
            decided_by,
            place,
        )

    def surface_refusal(self, candidate: Candidate, surface: Surface) -> Skipped | None:
        if custom := self.account.providers.get(candidate.provider):
            is_served = any(support.surface is surface for support in custom.surfaces)
            if is_served and not fits_path(candidate.model, custom.paths.get(surface, "")):
                message = f"{candidate.provider} takes the model in its path, and this name may not stand there."
                return _skip(candidate, DenialCode.MODEL_UNKNOWN, message)
        else:
            is_served = surface in BUILT_IN[candidate.provider].surfaces
        if is_served:
            return None
        message = f"{candidate.provider} does not serve the {surface} API."
        return _skip(candidate, DenialCode.SURFACE_NOT_SERVED, message)

    # ── whose key it uses (contract, section 9, "Credentials") ──

    def attempts(self, candidate: Candidate, place: int) -> Iterator[Attempt | Skipped]:
        """The attempts of an allowed candidate: by its model's rule, else its provider's rule, else the default."""
        decided_by, place_of_rule, rule = self._rule(candidate)
        if rule is None:
            yield from self._default_attempts(candidate, place)
            return
        for number, step in enumerate(rule.steps):
            if step.type == "ngrok":
                refusal = self._managed_refusal(candidate, number)
                yield refusal or Attempt(
                    candidate.provider,
                    candidate.model,
                    KeySource.MANAGED,
                    None,
                    decided_by,
                    place_of_rule,
                    number,
                    place,
                )
                continue
            strategy = Strategy(step.strategy) if step.strategy in _STRATEGIES else Strategy.ORDERED
            for key, weight in zip(step.keys, chain(step.weights, repeat(1)), strict=False):
                held = self.account.provider_keys.get(key)
                if held is None or held.provider != candidate.provider:
                    raise SnapshotIncomplete(f"{key} is not in the snapshot as a key of {candidate.provider}")
                yield Attempt(
                    candidate.provider,
                    candidate.model,
                    KeySource.USER,
                    key,
                    decided_by,
                    place_of_rule,
                    number,
                    place,
                    strategy,
                    weight,
                )

    def _rule(self, candidate: Candidate) -> tuple[DecidedBy, int, Rule] | tuple[DecidedBy, None, None]:
        if self.rules is not None:
            provider = candidate.provider
            if found := self.rules.model_rules.get((provider, model_key(provider, candidate.model))):
                return DecidedBy.MODEL_RULE, *found
            if found := self.rules.provider_rules.get(provider):
                return DecidedBy.PROVIDER_RULE, *found
        return DecidedBy.DEFAULT, None, None

    def _default_attempts(self, candidate: Candidate, place: int) -> Iterator[Attempt | Skipped]:
        provider = candidate.provider
        stored = self.account.keys_of.get(provider, ()) if self.rules is None else ()
        for key in stored:
            yield _default(candidate, KeySource.USER, key, place)
        if provider in self.account.providers:
            if not stored:
                yield _default(candidate, KeySource.NONE, None, place)
            return
        refusal = self._managed_refusal(candidate, None)
        if refusal is None:
            yield _default(candidate, KeySource.MANAGED, None, place)
        elif not stored:
            # With keys of its own a candidate is served, and managed inference would only have come after them.
            yield refusal

    def _managed_refusal(self, candidate: Candidate, step: int | None) -> Skipped | None:
        """Why managed inference does not serve a candidate, or None where it does."""
        provider, model = candidate.provider, candidate.model
        # The operator's key goes to the built-in provider alone, never to an account's own one of the same name.
        if provider not in self.catalog.managed or provider in self.account.providers:
            message = f"There is no provider key for {provider} that this access key may use, and no managed inference."
            return _skip(candidate, DenialCode.NO_CREDENTIALS, message, step)
        priced = self.catalog.find(provider, model)
        is_by_tokens = not any(part in model.casefold() for part in BUILT_IN[provider].unpriced_parts)
        if priced is None or not priced.is_chargeable or not is_by_tokens:
            message = (
                f"Managed inference serves priced models of the catalog only; {provider}:{_shown(model)} is not one."
            )
            return _skip(candidate, DenialCode.NO_CREDENTIALS, message, step)
        if not self.account.settings.has_credits:
            message = f"Managed inference of {provider} needs credits, and this account has none left."
            return _skip(candidate, DenialCode.NO_CREDITS, message, step)
        return None


def _default(candidate: Candidate, source: KeySource, key: str | None, place: int) -> Attempt:
    return Attempt(candidate.provider, candidate.model, source, key, DecidedBy.DEFAULT, None, None, place)


def _split_open_id(name: str) -> tuple[str, str]:
    owner, _, own = name.partition("/")
    return owner, own


def _skip(candidate: Candidate, code: DenialCode, message: str, step: int | None = None) -> Skipped:
    return Skipped(candidate.requested, candidate.provider, candidate.model, code, message, step)


def _unknown(what: str, name: str) -> str:
    return f"The {what} '{_shown(name)}' is not known."


def _shown(name: str) -> str:
    """A name from a request, cut to fit into a message."""
    return name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…"
