"""The examples of the OpenAPI document, for each operation with a body.

They are one story: an upstream's key, a configuration that uses it, an access key for an app, why a request of that app
would be refused, and what it used.
"""

from typing import Any, Final

_BASE: Final = "http://127.0.0.1:8000"
_API_KEY: Final = "aigapi_01kb6jq2v4e5ga1t3n7x9c2m8r"
_ACCESS_KEY: Final = "aigk_01kb6jt5c8f0prq4v2d7h3y9ns"
_CONFIGURATION: Final = "aigac_01kb6js8x1eq9a6m4w0r5t2k7z"
_PROVIDER_KEY: Final = "aigpk_01kb6jr7q9ef2s8d3v6n1b4m0c"
_PROVIDER: Final = "aigp_01kb6jq9n3fa7r5x8z2c4v6b1m"
_MASK: Final = "the-key-th***-you"


def _owned(path: str, text_id: str) -> dict[str, Any]:
    by = {"id": _API_KEY, "uri": f"{_BASE}/api-keys/{_API_KEY}"}
    return {
        "id": text_id,
        "uri": f"{_BASE}/{path}/{text_id}",
        "createdAt": "2026-11-29T09:30:00.120054Z",
        "updatedAt": "2026-11-29T09:30:00.120054Z",
        "createdBy": by,
        "lastUpdatedBy": by,
    }


def _page(path: str, list_key: str, item: dict[str, Any]) -> dict[str, Any]:
    return {list_key: [item], "uri": f"{_BASE}/{path}", "nextPageUri": None}


def _router(key: dict[str, str]) -> dict[str, Any]:
    return {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [key]}]}]}


_SCOPE: Final = {"models": {"allow": ["openai:gpt-4o"]}}
_CONFIGURED: Final = {
    **_owned("access-key-configurations", _CONFIGURATION),
    "name": "chat",
    "description": "What the chat may use.",
    "access": _SCOPE,
    "router": _router({"id": _PROVIDER_KEY, "name": "team key", "keyRedacted": _MASK}),
}
_ISSUED: Final = {
    **_owned("access-keys", _ACCESS_KEY),
    "name": "my app",
    "keyRedacted": "gwk_6zBS6O***1zV7",
    "lastUsed": None,
    "accessKeyConfiguration": {
        "id": _CONFIGURATION,
        "uri": f"{_BASE}/access-key-configurations/{_CONFIGURATION}",
        "name": "chat",
    },
}
_STORED: Final = {
    **_owned("provider-keys", _PROVIDER_KEY),
    "providerId": "openai",
    "name": "team key",
    "keyRedacted": _MASK,
    "lastUsed": "2026-11-29T11:02:00Z",
}
_CUSTOM: Final = {
    **_owned("providers", _PROVIDER),
    "providerId": "my-ollama",
    "name": "Ollama in the office",
    "baseUrl": "https://ollama.example.com/v1",
    "supportedApiSurfaces": [{"format": "openai", "surface": "chat-completions"}],
    "models": [{"id": "aigpm_01kb6jqan5e8t2w9y4c7d1f3gh", "modelId": "llama3.2"}],
}
_MANAGING: Final = {
    **_owned("api-keys", _API_KEY),
    "name": "deployments",
    "keyRedacted": "gwa_9kQm2Z***7bTr",
    "lastUsed": None,
    "expiresAt": "2099-01-01T00:00:00Z",
}
_LIMITS: Final = {
    "accountId": "ac_01kb6jp1d2e3f4g5h6j7k8m9na",
    "uri": f"{_BASE}/gateway-config",
    "totalTimeout": "90s",
    "perRequestTimeout": "60s",
    "streamTimeout": "30m",
    "maxInputTokens": None,
    "maxOutputTokens": 4096,
    "metadata": None,
}
_ALLOWED: Final = {
    "isAllowed": True,
    "surface": "chat-completions",
    "candidates": [
        {
            "requested": "gpt-4o",
            "isAllowed": True,
            "provider": "openai",
            "model": "gpt-4o",
            "allowedBy": ["access.models.allow[0]"],
            "credentialsFrom": "router.rules[0]",
        }
    ],
    "attempts": [
        {
            "attemptNumber": 1,
            "provider": "openai",
            "model": "gpt-4o",
            "keySource": "user",
            "credentialsFrom": "router.rules[0].steps[0]",
            "providerKeyId": _PROVIDER_KEY,
            "keyRedacted": _MASK,
            "outcome": "answers",
        }
    ],
    "skippedSteps": [],
}
_CHANGE: Final = {"msg": "Allow the model openai:o3.", "path": "access.models.allow", "add": "openai:o3"}
_REFUSED: Final = {
    "isAllowed": False,
    "surface": "chat-completions",
    "candidates": [
        {
            "requested": "openai:o3",
            "isAllowed": False,
            "provider": "openai",
            "model": "o3",
            "allowedBy": [],
            "errorCode": "model_not_allowed",
            "msg": "This access key's configuration does not allow the model openai:o3.",
            "change": _CHANGE,
        }
    ],
    "attempts": [],
    "skippedSteps": [],
    "errorCode": "model_not_allowed",
    "msg": "This access key's configuration does not allow the model openai:o3.",
    "change": _CHANGE,
}
_EVENT: Final = {
    "id": "aigue_01kb6mz0a2e4t6v8x1c3b5n7mq",
    "eventTime": "2026-11-29T11:02:00.481Z",
    "requestId": "01kb6mz09yf7qs",
    "accessKeyId": _ACCESS_KEY,
    "provider": "openai",
    "providerDisplayName": "OpenAI",
    "model": "gpt-4o",
    "modelDisplayName": "GPT-4o",
    "attemptNumber": 1,
    "isFinalAttempt": True,
    "statusCode": 200,
    "timedOut": False,
    "isError": False,
    "isStreaming": False,
    "stopReason": "stop",
    "inputTokens": 1200,
    "outputTokens": 310,
    "cacheReadTokens": 0,
    "reasoningTokens": 0,
    "totalCost": "0.00610",
    "keySource": "user",
    "providerKeyId": _PROVIDER_KEY,
    "providerKeyDisplayName": _MASK,
    "latencyMs": 2140,
    "firstByteMs": 380,
}
_SUMS: Final = {"cost": "0.00610", "requests": 1, "errors": 0}
_WORKER: Final = {
    "id": "aigw_01kb6jkx8se7v9b2n4m6q1w3er",
    "release": "0.1.0",
    "startedAt": "2026-11-29T09:00:00Z",
    "heartbeatAt": "2026-11-29T11:02:30Z",
    "heartbeatAgeSeconds": 0.41,
    "position": 7,
    "lag": 0,
    "inSync": True,
    "staleSeconds": 0.12,
    "stalenessLimitSeconds": 300,
    "accountApplied": True,
    "requests": 1,
    "refusals": {"count": 0, "newest": []},
}

# What a client sends, by operation ID.
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "createProviderKey": {"providerId": "openai", "name": "team key", "value": "the-key-that-OpenAI-gave-you"},
    "updateProviderKey": {"name": "team key"},
    "rotateProviderKey": {"name": "team key", "value": "the-next-key-that-OpenAI-gave-you"},
    "createConfiguration": {
        "name": "chat",
        "description": "What the chat may use.",
        "access": _SCOPE,
        "router": _router({"id": _PROVIDER_KEY}),
    },
    "updateConfiguration": {"access": _SCOPE},
    "explainConfiguration": {"model": "openai:o3", "access": _SCOPE},
    "createAccessKey": {"name": "my app", "accessKeyConfigurationId": _CONFIGURATION},
    "updateAccessKey": {"name": "my app", "description": None},
    "explainAccessKey": {"model": "gpt-4o"},
    "createProvider": {
        "providerId": "my-ollama",
        "name": "Ollama in the office",
        "baseUrl": "https://ollama.example.com/v1",
        "supportedApiSurfaces": [{"format": "openai", "surface": "chat-completions"}],
        "models": [{"modelId": "llama3.2"}],
    },
    "updateProvider": {"models": [{"modelId": "llama3.2"}]},
    "createApiKey": {"name": "deployments", "expiresAt": "2099-01-01T00:00:00Z"},
    "updateApiKey": {"name": "deployments"},
    "updateGatewayConfiguration": {"totalTimeout": "90s", "maxOutputTokens": 4096},
    "startCheckoutSession": {"amount": 5000},
}

# What a client gets, by operation ID.
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "createProviderKey": {**_STORED, "lastUsed": None},
    "getProviderKey": _STORED,
    "updateProviderKey": _STORED,
    "rotateProviderKey": _STORED,
    "listProviderKeys": _page("provider-keys", "aiGatewayProviderKeys", _STORED),
    "createConfiguration": _CONFIGURED,
    "getConfiguration": _CONFIGURED,
    "updateConfiguration": _CONFIGURED,
    "listConfigurations": _page("access-key-configurations", "aiGatewayAccessKeyConfigurations", _CONFIGURED),
    "explainConfiguration": _REFUSED,
    "createAccessKey": {**_ISSUED, "token": "gwk_…"},
    "getAccessKey": _ISSUED,
    "updateAccessKey": _ISSUED,
    "listAccessKeys": _page("access-keys", "aiGatewayAccessKeys", _ISSUED),
    "explainAccessKey": _ALLOWED,
    "createProvider": _CUSTOM,
    "getProvider": _CUSTOM,
    "updateProvider": _CUSTOM,
    "listProviders": _page("providers", "aiGatewayProviders", _CUSTOM),
    "createApiKey": {**_MANAGING, "token": "gwa_…"},
    "getApiKey": _MANAGING,
    "updateApiKey": _MANAGING,
    "listApiKeys": _page("api-keys", "aiGatewayApiKeys", _MANAGING),
    "getGatewayConfiguration": _LIMITS,
    "updateGatewayConfiguration": _LIMITS,
    "listUsageEvents": _page("usage?startTime=2026-11-29T00:00:00Z", "aiGatewayUsage", _EVENT),
    "getRequestTrace": {
        "uri": f"{_BASE}/usage/requests/{_EVENT['requestId']}",
        "requestId": _EVENT["requestId"],
        "accessKeyId": _ACCESS_KEY,
        "requestedModel": "openai:gpt-4o",
        "requestedAt": "2026-11-29T11:02:00.48Z",
        "snapshotVersion": 1796036520481312,
        "accessKeyConfigurationId": _CONFIGURATION,
        "attempts": [
            {
                "event": _EVENT,
                "served": True,
                "completion": "succeeded",
                "retryAction": "succeeded",
                "upstreamDurationMs": 2139,
                "firstByteMs": 380,
                "credentialsFrom": "router.rules[0].steps[0]",
            }
        ],
        "passedOver": [],
    },
    "getUsageOverview": {
        "uri": f"{_BASE}/usage/overview?startTime=2026-11-29T00:00:00Z",
        "buckets": [{"bucketStart": "2026-11-29T00:00:00Z", "groupKey": "openai", **_SUMS}],
        "totals": _SUMS,
    },
    "getCreditsBalance": {"balanceCents": 5000},
    "getCreditsTransactions": {
        "items": [
            {
                "type": "credits",
                "amountCents": 5000,
                "category": "purchase",
                "expiresAt": None,
                "createdAt": "2026-11-29T09:20:00Z",
            }
        ]
    },
    "startCheckoutSession": {"sessionId": "cs_01", "sessionUrl": "https://checkout.example.com/cs_01"},
    "getQuotas": {"quotas": [{"name": "accessKeys", "limit": 1000, "used": 1, "remaining": 999}]},
    "listCatalogProviders": _page(
        "catalog/providers",
        "catalogProviders",
        {
            "id": "openai",
            "displayName": "OpenAI",
            "baseUrl": "https://api.openai.com/v1",
            "supportedApiSurfaces": [{"format": "openai", "surface": "chat-completions"}],
            "managedInferenceSupported": True,
            "managedInferenceAvailable": False,
            "modelCount": 120,
        },
    ),
    "listCatalogModels": _page(
        "catalog/models",
        "catalogModels",
        {
            "id": "openai:gpt-4o",
            "providerId": "openai",
            "modelId": "gpt-4o",
            "displayName": "GPT-4o",
            "contextWindow": 128000,
            "inputPrice": "2.5",
            "outputPrice": "10",
        },
    ),
    "listWorkers": _page("data-plane/workers", "aiGatewayWorkers", _WORKER),
    "getHealth": {"status": "alive"},
    "getReadiness": {"status": "ready", "checks": {"database": "ok", "migrations": "ok", "redis": "ok"}},
}


def add_examples(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give each body of the document its example. A hook of DRF Spectacular."""
    for item in result["paths"].values():
        for operation in item.values():
            name = operation["operationId"]
            if name in REQUESTS:
                operation["requestBody"]["content"]["application/json"]["example"] = REQUESTS[name]
            for status in {"200", "201"} & set(operation["responses"]):
                operation["responses"][status]["content"]["application/json"]["example"] = ANSWERS[name]
    return result
