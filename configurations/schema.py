"""`access` and `router` in the OpenAPI document. They are written by hand, because no serializer checks them.

The limits are imported from configurations.scope and configurations.router, so that document and checks agree.
"""

from typing import Any, Final

from configurations import names, router, scope
from gateway_core import ids
from gateway_core.snapshot import MAX_WEIGHT
from provider_keys.values import PATTERN
from rest.fields import NAME_LENGTH, id_pattern

_CONTROL: Final = r"\u0000-\u001f\u007f-\u009f"
_TEXT: Final = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"
# A name before the first colon or slash, and another behind it; no white space around either.
_BEFORE: Final = rf"[^\s:/{_CONTROL}]([^:/{_CONTROL}]*[^\s:/{_CONTROL}])?"
_BEHIND: Final = rf"[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?"

_PROVIDER_ENTRY: Final = {"type": "string", "minLength": 1, "maxLength": names.MAX_NAME_LENGTH, "pattern": _TEXT}
_MODEL_ENTRY: Final = {
    "type": "string",
    "minLength": 3,
    "maxLength": names.MAX_ENTRY_LENGTH,
    "pattern": f"^{_BEFORE}[:/]{_BEHIND}$",
}
_RULE_MODEL: Final = {**_MODEL_ENTRY, "pattern": f"^{_BEFORE}:{_BEHIND}$"}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH, "pattern": _TEXT}
_WEIGHT: Final = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_WEIGHT,
    "description": "With `weighted` only: how often the key is tried first, compared with the others. 1 by default.",
}
_PROVIDER_KEY_ID: Final = {"type": "string", "pattern": id_pattern(ids.Prefix.PROVIDER_KEY)}


def _object(title: str, properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """A JSON Schema object with these properties and no others. Its title is its name in the document (rest.schema)."""
    found = {"title": title, "type": "object", "properties": properties, "additionalProperties": False, **more}
    return {**found, "required": list(required)} if required else found


def _allow(title: str, entry: dict[str, Any], description: str) -> dict[str, Any]:
    entries = {"type": "array", "items": entry, "maxItems": scope.MAX_ENTRIES, "uniqueItems": True}
    return _object(title, {"allow": {**entries, "description": description}}, description="What is allowed.")


ACCESS: Final = _object(
    "Access",
    {
        "providers": _allow(
            "AllowedProviders",
            _PROVIDER_ENTRY,
            "Built-in provider IDs, or custom providers' providerId or aigp_… IDs. Missing: all; empty: none.",
        ),
        "models": _allow(
            "AllowedModels",
            _MODEL_ENTRY,
            "`provider:model`, or an open model ID `x/m`. Missing: all; empty: none. Names compare without case.",
        ),
    },
    description="The providers and models that the access keys of this configuration may use. A missing field does not "
    "restrict anything. Entries are exact, without wildcards and without duplicates.",
    example={"providers": {"allow": ["openai"]}, "models": {"allow": ["openai:gpt-4o"]}},
)


def _router(suffix: str, key: dict[str, Any], example_key: dict[str, str]) -> dict[str, Any]:
    step = _object(
        f"Step{suffix}",
        {
            "type": {
                "type": "string",
                "enum": list(router.STEP_TYPES),
                "description": "`ngrok`: managed inference, for providers that have it, without keys. "
                "`user`: stored provider keys.",
            },
            "keys": {
                "type": "array",
                "items": key,
                "minItems": 1,
                "maxItems": router.MAX_STEP_KEYS,
                "description": "The provider keys of a `user` step, in the order in which `ordered` uses them.",
            },
            "keySelectionStrategy": {
                "type": "string",
                "enum": list(router.KEY_SELECTION_STRATEGIES),
                "description": "Which key a request tries first, and which next. `ordered`, the default: as they are "
                "listed. `weighted`: at random by their weights. `leastBusy`: the one with the fewest attempts under "
                "way in the worker. `sticky`: the same one for what belongs together (`previous_response_id`, "
                "`prompt_cache_key`, else the access key).",
            },
        },
        "type",
        description="One kind of credentials; the next step follows where they fail.",
    )
    rule = _object(
        f"Rule{suffix}",
        {
            "provider": {**_PROVIDER_ENTRY, "description": "A provider, named as in `access`."},
            "model": {
                **_RULE_MODEL,
                "description": "`provider:model`. With `provider` given too, they must agree. A rule for a model wins "
                "over one for its provider.",
            },
            "steps": {
                "type": "array",
                "items": step,
                "minItems": 1,
                "maxItems": router.MAX_STEPS,
                "description": "The credentials of this rule, in the order in which they are used.",
            },
        },
        "steps",
        # No `anyOf` of what is required: generators make a class without fields of it.
        description="At least one of `provider` and `model`. A provider has at most one rule, and so has each model.",
    )
    return _object(
        f"Router{suffix}",
        {
            "rules": {
                "type": "array",
                "items": rule,
                "maxItems": router.MAX_RULES,
                "description": "A rule for a model wins over one for its provider, in any order.",
            }
        },
        "rules",
        description="The credentials that a request uses, in order. All steps of all rules together have at most "
        f"{router.MAX_ROUTER_KEYS} keys.",
        example={
            "rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [example_key]}, {"type": "ngrok"}]}]
        },
    )


_EXAMPLE_ID: Final = "aigpk_01h455vb4pex5vsknk084sn02q"

ROUTER_FORM: Final = _router(
    "Form",
    {
        "oneOf": [
            _object(
                "KeyReference",
                {
                    "id": {**_PROVIDER_KEY_ID, "description": "The ID of the provider key."},
                    "name": {**_NAME, "description": "Ignored: a key may be sent back as it was read."},
                    "keyRedacted": {**_NAME, "description": "Ignored, as `name`."},
                    "weight": _WEIGHT,
                },
                "id",
                description="A stored provider key of the rule's provider. `name` goes only with `keyRedacted`.",
                dependentRequired={"name": ["keyRedacted"]},
            ),
            _object(
                "NewKey",
                {
                    "name": {**_NAME, "description": "The new provider key's name."},
                    "value": {
                        "type": "string",
                        "pattern": PATTERN,
                        "writeOnly": True,
                        "description": "The upstream's key. It is sealed at once and never shown again.",
                    },
                    "weight": _WEIGHT,
                },
                "name",
                "value",
                description="A new provider key, stored in the same transaction.",
            ),
        ]
    },
    {"id": _EXAMPLE_ID},
)
ROUTER: Final = _router(
    "",
    _object(
        "RoutedKey",
        {
            "id": {**_PROVIDER_KEY_ID, "description": "The ID of the provider key."},
            "name": {"type": "string", "description": "The provider key's name as it is now."},
            "keyRedacted": {"type": "string", "description": "The mask of the provider key's value."},
            "weight": {**_WEIGHT, "description": "As it was written; left out where it was not."},
        },
        "id",
        "name",
        "keyRedacted",
        description="A provider key that a step uses.",
    ),
    {"id": _EXAMPLE_ID, "name": "production", "keyRedacted": "***"},
)
