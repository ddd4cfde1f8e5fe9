"""What Schemathesis has to know of this API beyond its OpenAPI document (tests/contract/test_schemathesis.py)."""

import itertools
import json
import os
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from gateway_core.catalog import BUILT_IN

# The run's own API key must survive it, or all that follows would be 401.
OWN_KEYS: Final = os.environ.get("SCHEMATHESIS_OWN_KEY_IDS", "").split()
# A request that left usage.
REQUEST: Final = os.environ.get("SCHEMATHESIS_REQUEST_ID", "")
CONFIGURATION: Final = os.environ.get("SCHEMATHESIS_CONFIGURATION_ID", "")

# A refusal with one of these codes is about what there is, not about how the request is written: no schema can say that
# an ID exists, that a router agrees with its account, or that an ETag is the present one. `invalid_request`,
# `json_invalid` and `header_invalid` are not among them: where the document and the API part on form, the run fails.
ABOUT_STATE: Final = frozenset(
    {
        "configuration_invalid",
        "configuration_unknown",
        "idempotency_key_reused",
        "model_listed_twice",
        "precondition_failed",
        "provider_id_reserved",
        "provider_unknown",
    }
)
# No server error, but the contract's own answer where the operator has named no payment provider.
NOT_OFFERED: Final = "checkout_not_configured"

# A surface and its format agree, and none is listed twice.
SURFACES: Final = (
    {"format": "openai", "surface": "chat-completions"},
    {"format": "openai", "surface": "responses"},
    {"format": "openai", "surface": "embeddings"},
    {"format": "anthropic", "surface": "messages"},
)

LONGEST_HOST: Final = 200
CREATED: Final = 201
# What makes an object of each kind; every one is another.
BODIES: Final[dict[str, dict[str, str]]] = {
    "access-keys": {},
    "access-key-configurations": {"name": "made {}"},
    "api-keys": {},
    "provider-keys": {"providerId": "openai", "name": "made {}", "value": "sk-0123456789-made-{}"},
    "providers": {"providerId": "made-{}", "name": "made {}", "baseUrl": "https://llm.example.com"},
}

_made: Final[set[str]] = set()

_numbers = itertools.count(1)


def _is_past(value: object) -> bool:
    """Whether it is a well-formed time that has passed."""
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value) <= datetime.now(UTC)
    except (ValueError, TypeError):
        return False


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give a good request something real to speak of; leave a bad one as bad as it is."""
    del context, kwargs
    parameters = case.path_parameters or {}
    if parameters.get("id") in OWN_KEYS and case.method in {"PATCH", "DELETE"}:
        case.path_parameters["id"] = "aigapi_01h455vb4pex5vsknk084sn02q"
    # "0" is the generator's own filling. As a key it would make of every request the repetition of another; as an ETag
    # it is none (it lost its quotes on the way), and would hide what stands in the body.
    headers = case.headers or {}
    if headers.get("Idempotency-Key") == "0":
        headers["Idempotency-Key"] = f"key {next(_numbers)}"
    if headers.get("If-Match") == "0":
        del headers["If-Match"]
    # Only the clock knows that a well-formed time is over; a past expiry is refused.
    if isinstance(case.body, dict) and _is_past(case.body.get("expiresAt")):
        case.body["expiresAt"] = "2090-01-01T00:00:00Z"
    meta = case.meta
    if meta is None:
        return
    collection = case.operation.path.removesuffix("/{id}").strip("/")
    is_good = collection in BODIES and not meta.is_negative_at(ParameterLocation.PATH)
    if is_good and case.method == "DELETE" and parameters.get("id") not in _made | set(OWN_KEYS):
        # Something that is there to be deleted; what the run itself has made it deletes by its links.
        case.path_parameters["id"] = _make(collection)
    if case.operation.path == "/usage/requests/{id}" and not meta.is_negative_at(ParameterLocation.PATH):
        case.path_parameters["id"] = REQUEST
    if "If-Match" in headers and not meta.is_negative_at(ParameterLocation.HEADER):
        headers["If-Match"] = "*"
    if isinstance(case.body, dict) and not meta.is_negative_at(ParameterLocation.BODY):
        _make_real(case.body, case.operation.label)
        _make_limits_real(case.body)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Remember what there is."""
    del context, case
    if response.status_code == CREATED:
        _made.add(response.json()["id"])


def _make(collection: str) -> str:
    number = next(_numbers)
    body = {name: value.format(number) for name, value in BODIES[collection].items()}
    request = urllib.request.Request(
        f"{os.environ['SCHEMATHESIS_BASE_URL']}/{collection}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {_token()}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def _token() -> str:
    identities = json.loads(Path(os.environ["SCHEMATHESIS_KEYS_FILE"]).read_text())["auth"]
    return str(identities[0]["fixedHeaders"][0]["value"].removeprefix("Bearer "))


def _make_real(body: dict[str, Any], operation: str) -> None:
    if CONFIGURATION:
        for name in ("accessKeyConfigurationId", "configurationId"):
            if isinstance(body.get(name), str):
                body[name] = CONFIGURATION
    if isinstance(body.get("providerId"), str):
        # Of a provider key: one that there is. Of a provider: one that there is not yet.
        body["providerId"] = "openai" if "provider-keys" in operation else f"provider-{next(_numbers)}"
    for dimension, real in (("providers", "{}"), ("models", "{}:a-model")):
        entries = ((body.get("access") or {}).get(dimension) or {}).get("allow")
        if entries:
            names = [real.format(name) for name in BUILT_IN][: len(entries)]
            body["access"][dimension]["allow"] = names
    if isinstance(body.get("amount"), float):
        # A whole number to JSON Schema, and none to this API: numbers are not coerced.
        body["amount"] = int(body["amount"])
    if len(body.get("baseUrl") or "") > LONGEST_HOST:
        # A host name is shorter than a URL may be, which a schema cannot say.
        body["baseUrl"] = "https://llm.example.com"
    surfaces = body.get("supportedApiSurfaces")
    if surfaces:
        pairs = zip(surfaces, SURFACES, strict=False)
        body["supportedApiSurfaces"] = [{**written, **real} for written, real in pairs]
    if operation.endswith("/explain"):
        _make_question(body)
    rules = (body.get("router") or {}).get("rules")
    if rules:
        body["router"]["rules"] = [_real_rule(rule, name) for rule, name in zip(rules, BUILT_IN, strict=False)]


def _make_limits_real(body: dict[str, Any]) -> None:
    for name in ("limits", "accessKeyLimits"):
        if isinstance(body.get(name), list):
            # Two that count the same are refused.
            body[name] = body[name][:1]
    for limit in (*(body.get("limits") or ()), *(body.get("accessKeyLimits") or ())):
        if limit.get("measure") == "concurrency":
            limit.pop("window", None)
        elif "measure" in limit:
            limit.setdefault("window", "day")
        names = (limit.get("counts") or {}).get("providers")
        if names:
            limit["counts"]["providers"] = list(BUILT_IN)[: len(names)]
        # Only calendar windows have a zone.
        zone = {"timeZone": "Europe/Berlin"} if limit.get("window") in {"day", "week", "month"} else {}
        limit.update(zone)
        if not zone:
            limit.pop("timeZone", None)
        # A decimal text for money, a whole number for all else.
        amount = "50.00" if limit.get("measure") == "cost" else 50
        for one in (limit, *(limit.get("overrides") or ())):
            one["amount"] = amount


def _make_question(body: dict[str, Any]) -> None:
    # A model has to be named, and a stored configuration excludes a draft: the document says that in words alone.
    body["model"] = body.get("model") or "openai:gpt-4o"
    if "configurationId" in body:
        body.pop("access", None)
        body.pop("router", None)


def _real_rule(rule: dict[str, Any], provider: str) -> dict[str, Any]:
    real = {**rule, "steps": [_real_step(step) for step in rule["steps"]]}
    if "provider" in rule or "model" not in rule:
        real["provider"] = provider
    if "model" in rule:
        real["model"] = f"{provider}:a-model"
    return real


def _real_step(step: dict[str, Any]) -> dict[str, Any]:
    keys = [key for key in step.get("keys", ()) if "value" in key]
    number = next(_numbers)
    return {**step, "type": "user", "keys": keys or [{"name": f"key {number}", "value": f"sk-{number:040}"}]}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure counts."""
    del context, case
    code = _error_code(response)
    if failure.__class__.__name__ == "RejectedPositiveData":
        return code not in ABOUT_STATE | {NOT_OFFERED} and not _is_about_several(response)
    return not (failure.__class__.__name__ == "ServerError" and code == NOT_OFFERED)


def _error_code(response: Any) -> str | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body.get("errorCode") if isinstance(body, dict) else None


def _is_about_several(response: Any) -> bool:
    # A cursor is opaque by contract, its form is told to nobody; an end has to come after its beginning.
    return _error_code(response) == "query_invalid" and set(response.json()["details"]) <= {"cursor", "endTime"}
