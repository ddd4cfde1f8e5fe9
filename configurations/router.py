"""The routing rules: the credentials that a request to a provider or a model may use, and their order.

This module does not use the database. The account's objects are arguments, and a provider key that is written inline is
returned for the caller to store.

Source: contract, section 3; docs/decisions/0033-routers.md.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

from configurations.faults import Faults
from configurations.names import NamedModel, compiled_model, read_model, read_provider, split
from gateway_core import ids
from gateway_core.catalog import BUILT_IN
from gateway_core.plans import Strategy
from gateway_core.snapshot import MAX_WEIGHT, Rule, Step
from provider_keys.fields import ValueField
from provider_keys.values import PlainValue
from providers.provider_names import KnownProviders
from rest.fields import NAME_LENGTH, NameField

MAX_RULES: Final = 200
MAX_STEPS: Final = 20
MAX_STEP_KEYS: Final = 100
MAX_ROUTER_KEYS: Final = 1000

MANAGED: Final = "ngrok"
USER: Final = "user"
STEP_TYPES: Final = (MANAGED, USER)
KEY_SELECTION_STRATEGIES: Final = tuple(strategy.value for strategy in Strategy)


class InlineKey(NamedTuple):
    """A new provider key inside a router."""

    # Its rule, step and key, each from 0.
    place: tuple[int, int, int]
    provider: str
    name: str
    value: PlainValue


class CheckedRouter(NamedTuple):
    """The objects that a router without faults names."""

    # `providerId`s.
    providers: set[str]
    # Stored provider keys.
    keys: set[uuid.UUID]
    inline_keys: list[InlineKey]


def check(
    router: object, *, providers: KnownProviders, provider_keys: Mapping[uuid.UUID, str], faults: Faults
) -> CheckedRouter:
    """Check a `router` by every rule.

    Args:
        router: JSON as a client wrote it.
        providers: the providers that the account can name.
        provider_keys: {provider key's UUID: providerId} of those keys of `named_keys` that the account has.
        faults: receives each fault, under `router`.
    """
    return _Check(providers, provider_keys, faults).run(router)


def named_keys(router: object) -> set[uuid.UUID]:
    """The UUIDs of stored provider keys that a router names. The router may have faults."""
    found = set()
    for key in _keys_of(router):
        if isinstance(key, dict):
            try:
                found.add(ids.from_text(ids.Prefix.PROVIDER_KEY, key.get("id", "")))
            except ids.InvalidId:
                continue
    return found


def stored_form(router: Mapping[str, Any], stored: Mapping[tuple[int, int, int], str]) -> dict[str, Any]:
    """The router as it is stored: as written, but with the ID of the stored key in place of each inline key.

    Args:
        router: a router in which `check` found no fault.
        stored: `aigpk_…` IDs by the place of the inline key.
    """
    return {"rules": [_stored_rule(rule, number, stored) for number, rule in enumerate(router["rules"])]}


def _stored_rule(rule: Mapping[str, Any], number: int, stored: Mapping[tuple[int, int, int], str]) -> dict[str, Any]:
    steps = []
    for s, step in enumerate(rule["steps"]):
        kept = {name: step[name] for name in ("type", "keySelectionStrategy") if name in step}
        if "keys" in step:
            # Only the ID and the weight are copied, so that no secret value can get into the column.
            kept["keys"] = [
                {
                    "id": stored.get((number, s, k)) or key["id"],
                    **({"weight": key["weight"]} if "weight" in key else {}),
                }
                for k, key in enumerate(step["keys"])
            ]
        steps.append(kept)
    return {**{name: rule[name] for name in ("provider", "model") if name in rule}, "steps": steps}


def compile_rules(router: Mapping[str, Any] | None, slug_of: Callable[[str], str]) -> tuple[Rule, ...]:
    """The rules of a stored `router`, in the data plane's form.

    Args:
        router: a result of `stored_form`.
        slug_of: as `configurations.scope.compile_scope` has it.
    """
    return tuple(_compiled(rule, slug_of) for rule in (router or {}).get("rules", ()))


def _compiled(rule: Mapping[str, Any], slug_of: Callable[[str], str]) -> Rule:
    provider, model = compiled_model(rule["model"], slug_of) if "model" in rule else (slug_of(rule["provider"]), None)
    return Rule(provider=provider, steps=tuple(map(_compiled_step, rule["steps"])), model=model)


def _compiled_step(step: Mapping[str, Any]) -> Step:
    keys = step.get("keys", ())
    weights = tuple(key.get("weight", 1) for key in keys)
    return Step(
        step["type"],
        tuple(key["id"] for key in keys),
        strategy=step.get("keySelectionStrategy", Strategy.ORDERED.value),
        weights=weights if any(weight != 1 for weight in weights) else (),
    )


def _keys_of(router: object) -> Iterator[object]:
    """Yield every key of every step of every rule; parts without the form of a router are skipped."""
    for rule in _list(router, "rules"):
        for step in _list(rule, "steps"):
            yield from _list(step, "keys")


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


class _Check:
    """One walk through a router."""

    def __init__(self, providers: KnownProviders, provider_keys: Mapping[uuid.UUID, str], faults: Faults) -> None:
        self._providers = providers
        self._provider_keys = provider_keys
        self._faults = faults
        self._found = CheckedRouter(set(), set(), [])
        # The path of the rule of each (provider, model); model is None for a rule of the provider itself.
        self._ruled: dict[tuple[str, str | None], str] = {}

    def run(self, router: object) -> CheckedRouter:
        fields = self._faults.fields(router, "router", known=("rules",), required=("rules",))
        if fields is None or "rules" not in fields:
            return self._found
        if sum(1 for _ in _keys_of(router)) > MAX_ROUTER_KEYS:
            self._faults.add("router.rules", f"All steps together must have at most {MAX_ROUTER_KEYS} keys.")
            return self._found
        for place, (path, rule) in enumerate(self._faults.items(fields["rules"], "router.rules", most=MAX_RULES)):
            self._rule(rule, path, place)
        return self._found

    def _rule(self, rule: object, path: str, place: int) -> None:
        fields = self._faults.fields(rule, path, known=("provider", "model", "steps"), required=("steps",))
        if fields is None:
            return
        # A null subject is already reported; do not report it as missing too.
        if not {"provider", "model"} & set(cast("dict[str, Any]", rule)):
            self._faults.add(path, "A rule needs a provider, a model, or both.")
        provider = self._subject(fields, path)
        if provider is not None:
            self._found.providers.add(provider)
        if "steps" in fields:
            steps = self._faults.items(fields["steps"], f"{path}.steps", most=MAX_STEPS, least=1)
            for number, (step_path, step) in enumerate(steps):
                self._step(step, step_path, provider, (place, number))

    def _subject(self, fields: Mapping[str, Any], path: str) -> str | None:
        """The provider of a rule; None if it is unknown, which is then already reported as a fault."""
        provider_path, model_path = f"{path}.provider", f"{path}.model"
        named = None
        if "provider" in fields:
            named = read_provider(fields["provider"], provider_path, providers=self._providers, faults=self._faults)
        if "model" not in fields:
            if named is not None:
                self._one_rule(named, None, provider_path)
            return named
        model = self._model(fields["model"], model_path, named)
        if model is None:
            return named
        if named is not None and named != model.provider:
            self._faults.add(model_path, "This model's provider is not the one that the rule names.")
            return None
        self._one_rule(*model.key, model_path)
        return model.provider

    def _model(self, value: object, path: str, named: str | None) -> NamedModel | None:
        if isinstance(value, str) and value and not split(value).provider and not value.startswith(":"):
            # An open model ID or a bare name is valid in a scope or a request, but a rule needs one provider.
            hint = f" as in {named}:{_example(named)}" if named else " as in openai:gpt-4o"
            self._faults.add(path, f"A rule's model must be named with its provider,{hint}.")
            return None
        return read_model(value, path, providers=self._providers, faults=self._faults)

    def _one_rule(self, provider: str, model: str | None, path: str) -> None:
        first = self._ruled.setdefault((provider, model), path)
        if first != path:
            what = "model" if model is not None else "provider"
            self._faults.add(path, f"There is already a rule for this {what}, at {first.rpartition('.')[0]}.")

    def _step(self, step: object, path: str, provider: str | None, place: tuple[int, int]) -> None:
        fields = self._faults.fields(step, path, known=("type", "keys", "keySelectionStrategy"), required=("type",))
        if fields is None:
            return
        self._choice(fields, "type", STEP_TYPES, path)
        self._choice(fields, "keySelectionStrategy", KEY_SELECTION_STRATEGIES, path)
        if fields.get("type") == MANAGED:
            if provider is not None and not is_managed(provider):
                self._faults.add(f"{path}.type", f"{provider} has no managed inference; use type user with keys.")
            if "keys" in fields:
                self._faults.add(f"{path}.keys", "A step of type ngrok uses managed inference and takes no keys.")
                return
        elif fields.get("type") == USER and isinstance(step, dict) and "keys" not in step:
            self._faults.add(f"{path}.keys", "A step of type user needs at least one key.")
        if "keys" in fields:
            is_weighted = fields.get("keySelectionStrategy") == Strategy.WEIGHTED
            self._keys(fields["keys"], f"{path}.keys", provider, place, is_weighted=is_weighted)

    def _choice(self, fields: Mapping[str, Any], name: str, choices: tuple[str, ...], path: str) -> None:
        if name in fields and fields[name] not in choices:
            self._faults.add(f"{path}.{name}", f"This must be {' or '.join(choices)}.")

    def _keys(
        self, keys: object, path: str, provider: str | None, place: tuple[int, int], *, is_weighted: bool
    ) -> None:
        stored: dict[uuid.UUID, str] = {}
        values: list[tuple[PlainValue, str]] = []
        for number, (key_path, key) in enumerate(self._faults.items(keys, path, most=MAX_STEP_KEYS, least=1)):
            fields = self._key_fields(key, key_path)
            if fields is None:
                continue
            if "weight" in fields:
                self._weight(fields.pop("weight"), f"{key_path}.weight", is_weighted=is_weighted)
            if "id" in fields and ("name" in fields or "value" in fields):
                self._faults.add(
                    key_path, "Give either the id of a stored provider key, or name and value of a new one."
                )
            elif "id" in fields:
                found = self._stored_key(fields["id"], f"{key_path}.id", provider)
                if found is not None and stored.setdefault(found, key_path) != key_path:
                    self._faults.add(f"{key_path}.id", f"This step already has this provider key, at {stored[found]}.")
            elif "name" in fields or "value" in fields:
                inline = self._inline_key(fields, key_path, provider, (*place, number))
                if inline is not None:
                    same = next((other for value, other in values if value == inline.value), None)
                    if same is not None:
                        self._faults.add(f"{key_path}.value", f"This step already has this value, at {same}.")
                    values.append((inline.value, key_path))
            elif isinstance(key, dict) and not {"id", "name", "value"} & set(key):
                self._faults.add(key_path, "Give the id of a stored provider key, or name and value of a new one.")

    def _key_fields(self, key: object, path: str) -> dict[str, Any] | None:
        """The fields that a key writes. In the form of a read that is its `id` alone: it does not rename the key."""
        fields = self._faults.fields(key, path, known=("id", "name", "value", "keyRedacted", "weight"))
        if fields is None or "keyRedacted" not in fields:
            return fields
        if "id" not in fields or "value" in fields:
            self._faults.add(f"{path}.keyRedacted", "This is only shown, beside the id of a stored key.")
            return None
        for shown in fields.keys() - {"id", "weight"}:
            self._faults.text(fields[shown], f"{path}.{shown}", longest=NAME_LENGTH)
        return {name: fields[name] for name in ("id", "weight") if name in fields}

    def _weight(self, weight: object, path: str, *, is_weighted: bool) -> None:
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MAX_WEIGHT:
            self._faults.add(path, f"This must be a whole number from 1 to {MAX_WEIGHT}.")
        elif not is_weighted:
            self._faults.add(path, "A key has a weight only in a step whose keySelectionStrategy is weighted.")

    def _stored_key(self, value: object, path: str, provider: str | None) -> uuid.UUID | None:
        text = self._faults.text(value, path, longest=255)
        if text is None:
            return None
        try:
            identity = ids.from_text(ids.Prefix.PROVIDER_KEY, text)
        except ids.InvalidId:
            self._faults.add(path, "This is not the ID of a provider key (aigpk_…).")
            return None
        owner = self._provider_keys.get(identity)
        if owner is None:
            self._faults.add(path, "There is no provider key with this ID.")
        elif provider is not None and owner != provider:
            self._faults.add(path, f"This provider key is for {owner}, and the rule is for {provider}.")
        else:
            self._found.keys.add(identity)
        return identity

    def _inline_key(
        self, fields: Mapping[str, Any], path: str, provider: str | None, place: tuple[int, int, int]
    ) -> InlineKey | None:
        for missing in {"name", "value"} - set(fields):
            self._faults.add(f"{path}.{missing}", "This field is required.")
        name = self._faults.field(NameField(), fields["name"], f"{path}.name") if "name" in fields else None
        value = self._faults.field(ValueField(), fields["value"], f"{path}.value") if "value" in fields else None
        if name is None or value is None:
            return None
        inline = InlineKey(place, provider or "", name, value)
        self._found.inline_keys.append(inline)
        return inline


def is_managed(provider: str) -> bool:
    """Whether the catalog offers managed inference for a provider."""
    return provider in BUILT_IN and BUILT_IN[provider].is_managed


def _example(provider: str) -> str:
    return "gpt-4o" if provider == "openai" else "its-model"
