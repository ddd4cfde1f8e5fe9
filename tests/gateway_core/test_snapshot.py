"""Holds: gateway_core.snapshot, gateway_core.account_snapshot

The snapshot's documents: what a worker accepts, and how an account's state moves on.
"""

import math

import msgspec
import pytest

from gateway_core import ids
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import Surface
from gateway_core.snapshot import (
    CATALOG,
    ConfigurationDocument,
    DocumentRefused,
    Keys,
    ProviderDocument,
    ProviderKeyDocument,
    Rule,
    Scope,
    SettingsDocument,
    Step,
    SurfaceSupport,
    TokenDocument,
    encode,
    read,
)

ACCOUNT = ids.to_text(ids.Prefix.ACCOUNT, ids.new_id())
ACCESS_KEY = ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id())
CONFIGURATION = ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id())
OLDER_KEY, NEWER_KEY = (ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id()) for _ in range(2))
PROVIDER = ids.to_text(ids.Prefix.PROVIDER, ids.new_id())

DOCUMENTS = [
    ("token:" + "a" * 64, TokenDocument(account=ACCOUNT, access_key=ACCESS_KEY)),
    (
        "token:" + "b" * 64,
        TokenDocument(account=ACCOUNT, access_key=ACCESS_KEY, configuration=CONFIGURATION, expires_at=1, disabled=True),
    ),
    ("settings", SettingsDocument(total_timeout="2m", max_input_tokens=10, has_credits=True)),
    (
        f"configuration:{CONFIGURATION}",
        ConfigurationDocument(
            scope=Scope(providers=(), models=(("openai", "gpt-4o"), ("", "x/y"))),
            rules=(Rule(provider="openai", model="gpt-4o", steps=(Step("ngrok"), Step("user", (OLDER_KEY,)))),),
        ),
    ),
    (f"providerKey:{OLDER_KEY}", ProviderKeyDocument(provider="openai", mask="***", sealed=b"\x00\xff")),
    (
        "provider:my-ollama",
        ProviderDocument(
            id=PROVIDER,
            name="Ours",
            base_url="http://ollama.internal/v1",
            surfaces=(SurfaceSupport(Surface.MESSAGES, ("model",)),),
            models=("llama3.2",),
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "document"), DOCUMENTS, ids=lambda value: value.partition(":")[0] if isinstance(value, str) else ""
)
def test_a_document_reads_back_as_it_was_written(name, document):
    assert read(name, encode(document)) == document


def test_nothing_and_everything_are_told_apart():
    name = f"configuration:{CONFIGURATION}"

    assert read(name, encode(ConfigurationDocument(scope=Scope(providers=())))).scope.providers == ()
    assert read(name, encode(ConfigurationDocument())).scope.providers is None


def test_a_field_from_the_future_is_ignored_unless_it_must_be_understood():
    body = msgspec.json.decode(encode(DOCUMENTS[0][1]))

    assert read("token:x", msgspec.json.encode(body | {"region": "eu"})) == DOCUMENTS[0][1]
    assert read("token:x", msgspec.json.encode(body | {"mustUnderstand": ["disabled"]})).account == ACCOUNT
    with pytest.raises(DocumentRefused, match="does not understand"):
        read("token:x", msgspec.json.encode(body | {"region": "eu", "mustUnderstand": ["region"]}))


def test_a_kind_from_the_future_is_ignored():
    assert read("quota:x", b"anything") is None


TOKEN = {"account": ACCOUNT, "accessKey": ACCESS_KEY}
RULE = {"provider": "openai", "steps": [{"type": "ngrok"}]}
BAD = [
    ("token:x", b""),
    ("token:x", b"{"),
    ("token:x", b"null"),
    ("token:x", b"[]"),
    ("token:x", b'"text"'),
    ("token:x", b"\xff\xfe"),
    ("token:x", encode(DOCUMENTS[0][1])[:-1]),
    ("token:x", b"[" * 2_000),
    ("token:x", b'{"account":' + b"[" * 2_000),
    ("token:x", {}),
    ("token:x", {"account": ACCOUNT}),
    ("token:x", TOKEN | {"account": ""}),
    ("token:x", TOKEN | {"account": None}),
    ("token:x", TOKEN | {"account": 7}),
    ("token:x", TOKEN | {"account": "ac_" + "0" * 25}),
    ("token:x", TOKEN | {"account": "ac_" + "0" * 26 + "\n"}),
    ("token:x", TOKEN | {"accessKey": "*"}),
    ("token:x", TOKEN | {"configuration": ""}),
    ("token:x", TOKEN | {"configuration": []}),
    ("token:x", TOKEN | {"expiresAt": "tomorrow"}),
    ("token:x", TOKEN | {"expiresAt": 1.5}),
    ("token:x", TOKEN | {"disabled": "yes"}),
    ("token:x", TOKEN | {"disabled": 1}),
    ("token:x", TOKEN | {"mustUnderstand": "disabled"}),
    ("settings", {"totalTimeout": "soon"}),
    ("settings", {"totalTimeout": "0s"}),
    ("settings", {"totalTimeout": "-1s"}),
    ("settings", {"totalTimeout": ""}),
    ("settings", {"perRequestTimeout": 5}),
    ("settings", {"maxInputTokens": 0}),
    ("settings", {"maxOutputTokens": -1}),
    ("settings", {"maxOutputTokens": 1.5}),
    ("settings", {"hasCredits": "true"}),
    ("settings", b'{"maxInputTokens": NaN}'),
    ("settings", b'{"maxInputTokens": 1e400}'),
    ("configuration:x", {"scope": None}),
    ("configuration:x", {"scope": {"providers": "openai"}}),
    ("configuration:x", {"scope": {"providers": [""]}}),
    ("configuration:x", {"scope": {"providers": [None]}}),
    ("configuration:x", {"scope": {"providers": ["x"] * 100_001}}),
    ("configuration:x", {"scope": {"models": ["openai:gpt-4o"]}}),
    ("configuration:x", {"scope": {"models": [["openai"]]}}),
    ("configuration:x", {"scope": {"models": [["openai", ""]]}}),
    ("configuration:x", {"rules": {}}),
    ("configuration:x", {"rules": [RULE | {"provider": ""}]}),
    ("configuration:x", {"rules": [{"steps": RULE["steps"]}]}),
    ("configuration:x", {"rules": [RULE | {"steps": []}]}),
    ("configuration:x", {"rules": [RULE | {"steps": [{"type": "free"}]}]}),
    ("configuration:x", {"rules": [RULE | {"steps": [{"type": "user", "keys": ["k"]}]}]}),
    ("configuration:x", {"rules": [RULE | {"steps": [{"type": "user", "keys": [OLDER_KEY] * 100_001}]}]}),
    ("configuration:x", {"rules": [RULE | {"model": ""}]}),
    ("providerKey:x", {"provider": "openai", "mask": "***"}),
    ("providerKey:x", {"provider": "", "mask": "***", "sealed": "AA=="}),
    ("providerKey:x", {"provider": "openai", "mask": "", "sealed": "AA=="}),
    ("providerKey:x", {"provider": "openai", "mask": "***", "sealed": "not base64!"}),
    ("providerKey:x", {"provider": "openai", "mask": "***", "sealed": None}),
    ("provider:x", {"id": PROVIDER, "name": "x", "baseUrl": "", "surfaces": []}),
    ("provider:x", {"id": PROVIDER, "name": "", "baseUrl": "https://x", "surfaces": []}),
    ("provider:x", {"id": "x", "name": "x", "baseUrl": "https://x", "surfaces": []}),
    ("provider:x", {"id": PROVIDER, "name": "x", "baseUrl": "https://x", "surfaces": [{"surface": "telepathy"}]}),
    ("provider:x", {"id": PROVIDER, "name": "x", "baseUrl": "https://x", "surfaces": [{"surface": "messages"}] * 65}),
    ("provider:x", {"id": PROVIDER, "name": "x", "baseUrl": "https://x" + "y" * 5_000, "surfaces": []}),
    ("version", b"7"),
]


@pytest.mark.parametrize(("name", "body"), BAD)
def test_a_bad_document_is_refused_and_its_content_is_not_told(name, body):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)

    with pytest.raises(DocumentRefused) as refusal:
        read(name, raw)

    assert len(str(refusal.value)) < 120
    assert OLDER_KEY not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_infinity_never_gets_in():
    with pytest.raises(DocumentRefused):
        read("settings", f'{{"maxInputTokens": {math.inf}}}'.encode())


# ── how an account's state moves on ──


def test_an_account_goes_only_forward():
    snapshot = AccountSnapshot(ACCOUNT)
    snapshot.apply(5, {"settings": SettingsDocument(max_input_tokens=5)})

    for version in (5, 4, 0):
        with pytest.raises(DocumentRefused):
            snapshot.apply(version, {"settings": SettingsDocument(max_input_tokens=1)})

    assert snapshot.settings.max_input_tokens == 5
    assert snapshot.version == 5


def test_provider_keys_are_listed_newest_first_and_forgotten_when_deleted():
    snapshot = AccountSnapshot(ACCOUNT)
    key = ProviderKeyDocument(provider="openai", mask="***", sealed=b"x")
    snapshot.apply(1, {f"providerKey:{NEWER_KEY}": key})
    snapshot.apply(2, {f"providerKey:{OLDER_KEY}": key})
    snapshot.apply(3, {f"providerKey:{NEWER_KEY}": key})

    assert list(snapshot.keys_of["openai"]) == [NEWER_KEY, OLDER_KEY]

    snapshot.apply(4, {f"providerKey:{NEWER_KEY}": None, "providerKey:never-there": None})

    assert list(snapshot.keys_of["openai"]) == [OLDER_KEY]
    assert set(snapshot.provider_keys) == {OLDER_KEY}


def test_every_kind_can_be_deleted_again():
    snapshot = AccountSnapshot(ACCOUNT)
    documents = {name: document for name, document in DOCUMENTS if not name.startswith("token:")}
    snapshot.apply(1, documents)
    assert snapshot.provider_ids == {PROVIDER: "my-ollama"}

    snapshot.apply(2, dict.fromkeys(documents))

    assert not snapshot.configurations
    assert not snapshot.providers
    assert not snapshot.provider_ids
    assert not snapshot.provider_keys
    assert snapshot.settings.total_timeout == 120


# ── where things stand ──


def test_every_key_carries_the_hash_tag_and_no_two_places_are_one():
    keys = Keys("gw")
    places = [
        keys.location(ACCOUNT, "settings"),
        keys.location(ACCOUNT, f"configuration:{CONFIGURATION}"),
        keys.location(CATALOG, "settings"),
        keys.location(ACCOUNT, "token:" + "a" * 64),
        keys.change(ACCOUNT),
        keys.change(CATALOG),
    ]

    assert len(set(places)) == len(places)
    assert all(place.startswith("{gw}:") for place in [*places, keys.epoch, keys.workers, keys.acknowledged])
    assert keys.location(ACCOUNT, "token:" + "a" * 64) == keys.token("a" * 64) + "\n"
