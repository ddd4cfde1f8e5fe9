"""What the OpenAPI document says of the whole API: who keeps it, where it is served, and its tags."""

from typing import Any, Final

WHOLE_API: Final[dict[str, Any]] = {
    "CONTACT": {"name": "The maintainers of Gateway Admin"},
    "LICENSE": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    # `/openapi.json` names the base that its client called.
    "SERVERS": [{"url": "http://127.0.0.1:8000", "description": "A control plane on this machine (`make run`)."}],
    # A tag is the first part of a path, in the order of the contract.
    "TAGS": [
        {"name": "access-keys", "description": "The tokens that apps send to the data plane."},
        {
            "name": "access-key-configurations",
            "description": "Which providers and models access keys may reach, and whose credentials requests use.",
        },
        {"name": "provider-keys", "description": "Upstreams' own API keys, stored sealed."},
        {"name": "providers", "description": "Custom providers. The built-in ones are in the catalog."},
        {"name": "api-keys", "description": "The tokens that manage this API."},
        {"name": "gateway-config", "description": "Timeouts and caps for every request of the account."},
        {"name": "usage", "description": "What was asked of upstreams, and what it cost at list price."},
        {"name": "credits", "description": "What pays for managed inference."},
        {"name": "quotas", "description": "How many objects the account may have."},
        {"name": "catalog", "description": "The built-in providers and their models."},
        {"name": "data-plane", "description": "The workers that serve requests."},
        {"name": "healthz", "description": "Whether the process answers."},
        {"name": "readyz", "description": "Whether the process can do its work."},
    ],
}
