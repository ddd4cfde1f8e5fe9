"""A realistic account: what screenshots show, and what pages are looked at with. Random by a fixed seed."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from access_keys.models import AccessKey
from access_keys.services import create_access_key, update_access_key
from accounts import services as accounts
from accounts.models import Account, Membership, User
from accounts.principals import Principal
from configurations.services import create_configuration, update_configuration
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key, rotate_provider_key
from provider_keys.values import PlainValue
from providers.base_url_check import vet
from providers.services import create_provider
from tests.events import an_event
from usage import ingest, ledger

# Model, provider, how much of the traffic it has, and the sort of app whose configuration leads there.
_TRAFFIC: Final = (
    ("gpt-4o", "openai", 30, "prod"),
    ("gpt-4o-mini", "openai", 20, "prod"),
    ("gpt-4o-mini", "openai", 8, "ci"),
    ("claude-sonnet-4-5", "anthropic", 22, "prod"),
    ("llama-3.3-70b-versatile", "groq", 10, "prod"),
    ("mistral-large-latest", "mistral", 6, "research"),
    ("llama3.2", "on-prem", 4, "research"),
)
_SEED: Final = 20261125
_APPS: Final = (
    ("checkout-assistant", "Answers questions on the checkout page", "prod"),
    ("support-copilot", "Drafts replies for the support team", "prod"),
    ("search-rerank", "Reorders search results", "prod"),
    ("nightly-evals", "CI: quality checks of prompts", "ci"),
    ("data-team", "Notebooks of the data team", "research"),
    ("mobile-app", "Summaries in the mobile app", "prod"),
)


def showcase(account: Account, *, events: int = 3000, now: datetime | None = None) -> User:
    """Fill an empty account with keys, configurations, traffic of a month and a history. Returns its owner."""
    chance = random.Random(_SEED)
    now = now or datetime.now(UTC)
    owner = accounts.create_user(
        username="mira", email="mira@example.com", password="correct-horse-battery", account=account, role="owner"
    )
    for name, role in (("jonas", Membership.Role.EDITOR), ("amara", Membership.Role.VIEWER)):
        accounts.create_user(
            username=name, email=f"{name}@example.com", password="correct-horse-battery", account=account, role=role
        )
    by = Principal.of(owner)
    create_provider(
        account=account,
        by=by,
        provider_id="on-prem",
        name="On-premises Llama",
        base_url=vet("https://llm.example.internal/v1"),
        models=["llama3.2", "llama3.2-vision"],
    )
    keys = _provider_keys(account, by)
    configurations = _configurations(account, by, keys)
    access_keys = _access_keys(account, by, configurations, now)
    ledger.grant(account=account, cents=50_000, category="purchase")
    ledger.grant(account=account, cents=2_500, category="promotional", expires_at=now + timedelta(days=60))
    _traffic(account, keys, access_keys, chance, events, now)
    rotate_provider_key(provider_key=keys["groq"], by=by, name="Groq", value=PlainValue("gsk_" + "n" * 40 + "4f9c"))
    return owner


def _provider_keys(account: Account, by: Principal) -> dict[str, ProviderKey]:
    made = {}
    for provider, name, value in (
        ("openai", "OpenAI production", "sk-proj-" + "p" * 40 + "A1b2"),
        ("openai-spare", "OpenAI spare", "sk-proj-" + "s" * 40 + "C3d4"),
        ("anthropic", "Anthropic team", "sk-ant-api03-" + "a" * 40 + "E5f6"),
        ("groq", "Groq", "gsk_" + "g" * 40 + "G7h8"),
        ("mistral", "Mistral Europe", "mst-" + "m" * 30 + "I9j0"),
    ):
        made[provider] = create_provider_key(
            account=account,
            by=by,
            provider_id=provider.removesuffix("-spare"),
            name=name,
            value=PlainValue(value),
        )
    return made


def _configurations(account: Account, by: Principal, keys: dict[str, ProviderKey]) -> list[Any]:
    def step(*names: str) -> dict[str, Any]:
        return {"type": "user", "keys": [{"id": keys[name].text_id} for name in names]}

    production = create_configuration(
        account=account,
        by=by,
        name="Production",
        description="What customers meet: three providers, failover to the spare key, then to managed inference",
        access={"providers": {"allow": ["openai", "anthropic", "groq"]}},
        router={
            "rules": [
                {"provider": "openai", "steps": [step("openai", "openai-spare"), {"type": "ngrok"}]},
                {"provider": "anthropic", "steps": [step("anthropic"), {"type": "ngrok"}]},
                {"provider": "groq", "steps": [step("groq")]},
            ]
        },
    )
    research = create_configuration(
        account=account,
        by=by,
        name="Research",
        description="Everything, for trying things out",
        router={"rules": [{"provider": "mistral", "steps": [step("mistral")]}]},
    )
    small = create_configuration(
        account=account,
        by=by,
        name="Small models only",
        access={"models": {"allow": ["openai:gpt-4o-mini", "on-prem:llama3.2"]}},
        router={"rules": [{"model": "openai:gpt-4o-mini", "steps": [step("openai-spare")]}]},
    )
    update_configuration(
        configuration=small,
        by=by,
        description="For CI: cheap, and nothing that learns from us",
        access={"models": {"allow": ["openai:gpt-4o-mini", "on-prem:llama3.2", "groq:llama-3.3-70b-versatile"]}},
    )
    return [production, research, small]


def _access_keys(account: Account, by: Principal, configurations: list[Any], now: datetime) -> list[AccessKey]:
    production, research, small = configurations
    under = {"prod": production, "ci": small, "research": research}
    made = [
        create_access_key(
            account=account, by=by, name=name, description=description, configuration_id=under[kind].id
        ).access_key
        for name, description, kind in _APPS
    ]
    retired = create_access_key(account=account, by=by, name="retired-prototype").access_key
    update_access_key(access_key=retired, by=by, disabled=True)
    create_access_key(account=account, by=by, name="contractor", expires_at=now + timedelta(days=14))
    return made


def _traffic(
    account: Account,
    keys: dict[str, ProviderKey],
    access_keys: list[AccessKey],
    chance: random.Random,
    count: int,
    now: datetime,
) -> None:
    told = []
    weights = [weight for _, _, weight, _ in _TRAFFIC]
    apps: dict[str, list[AccessKey]] = {}
    for access_key, (_, _, kind) in zip(access_keys, _APPS, strict=True):
        apps.setdefault(kind, []).append(access_key)
    for _ in range(count):
        ago = chance.expovariate(1 / 9) % 29.5
        hour = chance.gauss(14, 4) % 24
        at = (now - timedelta(days=ago)).replace(
            hour=int(hour), minute=chance.randrange(60), second=chance.randrange(60)
        )
        if at > now:
            at -= timedelta(days=1)
        model, provider, _, kind = chance.choices(_TRAFFIC, weights)[0]
        among = apps[kind]
        access_key = chance.choices(among, (30, 24, 18, 12)[: len(among)])[0]
        own = [key for name, key in keys.items() if name.removesuffix("-spare") == provider]
        own = own[-1:] if kind == "ci" else own
        told += _request(account, own, access_key, provider, model, at, chance)
    for start in range(0, len(told), 500):
        ingest.write(told[start : start + 500])


def _request(
    account: Account,
    keys: list[ProviderKey],
    access_key: AccessKey,
    provider: str,
    model: str,
    at: datetime,
    chance: random.Random,
) -> list[Any]:
    moment = round(at.timestamp() * 1_000_000)
    request = f"req_{chance.getrandbits(96):024x}"
    outcome = chance.choices(("well", "retried", "failed"), (93, 5, 2))[0]
    if outcome == "retried" and len(keys) <= 1:
        outcome = "failed"  # nothing is tried twice
    shared: dict[str, Any] = {
        "request_id": request,
        "access_key": access_key.text_id,
        "provider": provider,
        "model": model,
        "requested_model": model,
        "key_source": "user" if keys else "none",
        "is_streaming": chance.random() < 0.6,
    }
    attempts = []
    if outcome != "well":
        attempts.append(
            an_event(
                account,
                at=moment,
                **shared,
                **_shown(keys[:1]),
                status=chance.choice((429, 429, 503, 500)),
                is_error=True,
                is_final=outcome == "failed",
                input_tokens=0,
                output_tokens=0,
                duration_ms=chance.randrange(80, 900),
            )
        )
    if outcome != "failed":
        later = moment + sum(one.duration_ms for one in attempts) * 1000
        attempts.append(
            an_event(
                account,
                at=later,
                **shared,
                **_shown(keys[len(attempts) :]),
                attempt=len(attempts) + 1,
                status=200,
                input_tokens=int(chance.lognormvariate(6.5, 0.9)),
                output_tokens=int(chance.lognormvariate(5.2, 0.8)),
                stop_reason="stop",
                duration_ms=chance.randrange(300, 6000),
            )
        )
    return attempts


def _shown(keys: list[ProviderKey]) -> dict[str, str]:
    """What an attempt tells of the first of these keys."""
    return {"provider_key": keys[0].text_id, "mask": keys[0].key_redacted} if keys else {}
