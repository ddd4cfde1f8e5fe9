"""Commands and code to copy that use an access key, with the data plane's address."""

from typing import Any, Final, NamedTuple

from django.conf import settings

from access_keys.models import AccessKey
from gateway_core.catalog import BUILT_IN
from provider_keys.models import ProviderKey
from providers.catalog import held_catalog
from providers.models import ProviderModel

# Shown where the address is not known (docs/settings.md, DATA_PLANE_URL).
UNKNOWN_URL: Final = "https://your-data-plane.example"
# The model for examples at each provider, where no model is allowed by name.
_WELL_KNOWN: Final = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}
_DEFAULT: Final = "gpt-4o"

_CURL: Final = """\
curl {url}/v1/chat/completions \\
  -H "Authorization: Bearer {token}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello?"}}]}}'"""
_OPENAI: Final = """\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{token}")
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello?"}}],
)
print(answer.choices[0].message.content)"""
_ANTHROPIC: Final = """\
from anthropic import Anthropic

client = Anthropic(base_url="{url}", api_key="{token}")
answer = client.messages.create(
    model="{model}",
    max_tokens=200,
    messages=[{{"role": "user", "content": "Hello?"}}],
)
print(answer.content[0].text)"""

_CLAUDE_CODE: Final = """\
export ANTHROPIC_BASE_URL={url}
export ANTHROPIC_AUTH_TOKEN={token}
claude --model {model}"""
# In a file that others may read: the access key is in the environment.
_CODEX: Final = """\
model = "{model}"
model_provider = "gateway"

[model_providers.gateway]
name = "Gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses\""""


class Snippet(NamedTuple):
    """One example: its title, its language and its code."""

    label: str
    text: str


def data_plane_url() -> str:
    """The URL to which apps send their requests, or a placeholder where it is not known."""
    return str(settings.DATA_PLANE_URL) or UNKNOWN_URL


def snippets_of(access_key: AccessKey, token: str) -> list[Snippet]:
    """Examples for some clients with a model that the access key may reach. Two queries at most.

    They are those of docs/clients.md, where the tests run them.

    Args:
        access_key: read with its configuration.
        token: the token itself, or a placeholder.
    """
    model = example_model(access_key)
    values = {"url": data_plane_url(), "token": token, "model": model}
    asks_anthropic = model.partition(":")[0] == "anthropic" or model.startswith("claude")
    claude = values if asks_anthropic else values | {"model": f"anthropic:{_WELL_KNOWN['anthropic']}"}
    return [
        Snippet("curl", _CURL.format(**values)),
        Snippet("Python, openai", _OPENAI.format(**values)),
        Snippet("Python, anthropic", _ANTHROPIC.format(**claude)),
        Snippet("Claude Code", _CLAUDE_CODE.format(**claude)),
        Snippet("Codex, ~/.codex/config.toml", _CODEX.format(**values)),
    ]


def example_model(access_key: AccessKey) -> str:
    """A model to try first: one that is allowed by name, else one of a provider that is allowed or has a stored key."""
    configuration = access_key.configuration
    access: dict[str, Any] = (configuration.access if configuration else None) or {}
    models = (access.get("models") or {}).get("allow")
    if models:
        return _quotable(models[0])
    providers = (access.get("providers") or {}).get("allow")
    rules = ((configuration.router if configuration else None) or {}).get("rules") or []
    if providers:
        return _model_of(access_key, str(providers[0]))
    for rule in rules:
        return _quotable(rule["model"]) if "model" in rule else _model_of(access_key, rule["provider"])
    stored = ProviderKey.objects.filter(account=access_key.account_id).order_by("-id").only("provider").first()
    return _model_of(access_key, stored.provider) if stored else _DEFAULT


def _model_of(access_key: AccessKey, provider: str) -> str:
    if provider in _WELL_KNOWN:
        return _WELL_KNOWN[provider]
    if provider in BUILT_IN:
        first = next((model.id for model in held_catalog().models(provider) if model.is_priced), None)
    else:
        own = ProviderModel.objects.filter(provider__account=access_key.account_id, provider__slug=provider)
        first = own.order_by("id").values_list("model_id", flat=True).first()
    return _quotable(f"{provider}:{first}") if first else _DEFAULT


def _quotable(model: str) -> str:
    """The model's name where it is safe in quotes of a shell, JSON and Python, else the default model."""
    return model if not set(model) & set("'\"\\`$\n") else _DEFAULT
