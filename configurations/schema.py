"""`access` and `router` in the OpenAPI document. They are written by hand, because no serializer checks them.

The limits are imported from configurations.scope and configurations.router, so that document and checks agree.
"""

from typing import Any, Final

from configurations import names, router, scope
from gateway_core import ids
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
_PROVIDER_KEY_ID: Final = {"type": "string", "pattern": id_pattern(ids.Prefix.PROVIDER_KEY)}


def _object(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """A JSON Schema object with these properties and no others."""
    found = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return {**found, "required": list(required)} if required else found


def _allow(entry: dict[str, Any], description: str) -> dict[str, Any]:
    entries = {"type": "array", "items": entry, "maxItems": scope.MAX_ENTRIES, "uniqueItems": True}
    return _object({"allow": {**entries, "description": description}})


ACCESS: Final = _object(
    {
        "providers": _allow(
            _PROVIDER_ENTRY,
            "Built-in provider IDs, or custom providers' providerId or aigp_… IDs. Missing: all; empty: none.",
        ),
        "models": _allow(
            _MODEL_ENTRY,
            "`provider:model`, or an open model ID `x/m`. Missing: all; empty: none. Names compare without case.",
        ),
    },
    description="The providers and models that the access keys of this configuration may use. A missing field does not "
    "restrict anything. Entries are exact, without wildcards and without duplicates.",
    example={"providers": {"allow": ["openai"]}, "models": {"allow": ["openai:gpt-4o"]}},
)


def _router(key: dict[str, Any], example_key: dict[str, str]) -> dict[str, Any]:
    step = _object(
        {
            "type": {
                "type": "string",
                "enum": list(router.STEP_TYPES),
                "description": "`ngrok`: managed inference, for providers that have it, without keys. "
                "`user`: stored provider keys, in order.",
            },
            "keys": {"type": "array", "items": key, "minItems": 1, "maxItems": router.MAX_STEP_KEYS},
            "keySelectionStrategy": {
                "type": "string",
                "enum": list(router.KEY_SELECTION_STRATEGIES),
                "description": "`ordered` is the default.",
            },
        },
        "type",
    )
    rule = _object(
        {
            "provider": {**_PROVIDER_ENTRY, "description": "A provider, named as in `access`."},
            "model": {
                **_RULE_MODEL,
                "description": "`provider:model`. With `provider` given too, they must agree. A rule for a model wins "
                "over one for its provider.",
            },
            "steps": {"type": "array", "items": step, "minItems": 1, "maxItems": router.MAX_STEPS},
        },
        "steps",
        description="At least one of `provider` and `model`. A provider has at most one rule, and so has each model.",
        anyOf=[{"required": ["provider"]}, {"required": ["model"]}],
    )
    return _object(
        {"rules": {"type": "array", "items": rule, "maxItems": router.MAX_RULES}},
        "rules",
        description="The credentials that a request uses, in order. All steps of all rules together have at most "
        f"{router.MAX_ROUTER_KEYS} keys.",
        example={
            "rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [example_key]}, {"type": "ngrok"}]}]
        },
    )


_EXAMPLE_ID: Final = "aigpk_01h455vb4pex5vsknk084sn02q"

ROUTER_FORM: Final = _router(
    {
        "oneOf": [
            _object({"id": _PROVIDER_KEY_ID}, "id", description="A stored provider key of the rule's provider."),
            _object(
                {
                    "name": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH, "pattern": _TEXT},
                    "value": {"type": "string", "pattern": PATTERN, "writeOnly": True},
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
    _object(
        {"id": _PROVIDER_KEY_ID, "name": {"type": "string"}, "keyRedacted": {"type": "string"}},
        "id",
        "name",
        "keyRedacted",
    ),
    {"id": _EXAMPLE_ID, "name": "production", "keyRedacted": "***"},
)
