"""Holds: configurations.names, configurations.snapshot_documents, providers.provider_names

Entries, rules, keys and new providers under other names of built-in providers and of fine-tuned models.
"""

import pytest

from configurations import snapshot_documents
from gateway_core.snapshot import Scope
from tests.rows import make_provider

URL = "/access-key-configurations"
TUNED = "ft:gpt-4o:acme::7p4lURel"
BODY = {
    "name": "n",
    "access": {
        "providers": {"allow": ["moonshotai", "openai", "z-ai"]},
        "models": {"allow": ["moonshotai:kimi-k2.6", TUNED, "openai:ft:gpt-4o-mini:acme::2", "moonshotai/kimi-k3"]},
    },
    "router": {
        "rules": [
            {
                "provider": "moonshotai",
                "steps": [{"type": "user", "keys": [{"name": "a", "value": "sk-moon-012345"}]}],
            },
            {"model": TUNED, "steps": [{"type": "user", "keys": [{"name": "b", "value": "sk-tuned-012345"}]}]},
        ]
    },
}


def published(account):
    return next(document for _, _, document in snapshot_documents.all_documents([account]))


def test_the_data_plane_gets_provider_ids_and_the_client_what_it_wrote(api, account):
    answer = api.post(URL, BODY)

    document = published(account)
    assert answer.status_code == 201, answer.json()
    assert answer.json()["access"] == BODY["access"]
    assert "warnings" not in answer.json()
    assert document.scope == Scope(
        providers=("moonshot", "openai", "z-ai"),
        models=(
            ("moonshot", "kimi-k2.6"),
            ("openai", TUNED),
            ("openai", "ft:gpt-4o-mini:acme::2"),
            ("", "moonshotai/kimi-k3"),
        ),
    )
    assert [(rule.provider, rule.model) for rule in document.rules] == [("moonshot", None), ("openai", TUNED)]
    assert [key["providerId"] for key in api.get("/provider-keys").json()["aiGatewayProviderKeys"]] == [
        "openai",
        "moonshot",
    ]


@pytest.mark.parametrize(
    ("access", "path"),
    [
        ({"providers": {"allow": ["moonshot", "moonshotai"]}}, "access.providers.allow[1]"),
        ({"models": {"allow": ["moonshotai:kimi-k2.6", "moonshot:Kimi-K2.6"]}}, "access.models.allow[1]"),
        ({"models": {"allow": [TUNED, f"openai:{TUNED}"]}}, "access.models.allow[1]"),
        ({"providers": {"allow": ["ft"]}}, "access.providers.allow[0]"),
        ({"models": {"allow": ["moonshotais:kimi-k2"]}}, "access.models.allow[0]"),
    ],
)
def test_two_names_of_one_thing_are_a_duplicate_and_no_name_means_more_than_it_says(api, assert_refused, access, path):
    answer = api.post(URL, {"name": "n", "access": access})

    assert answer.status_code == 422
    assert list(answer.json()["details"]) == [path]


def test_a_key_under_the_alias_is_a_key_of_the_provider(api):
    made = api.post("/provider-keys", {"providerId": "moonshotai", "name": "a", "value": "sk-moon-012345"}).json()

    for name in ("moonshot", "moonshotai"):
        found = api.get(f"/provider-keys?provider={name}").json()["aiGatewayProviderKeys"]
        assert [key["id"] for key in found] == [made["id"]]


@pytest.mark.parametrize("slug", ["moonshotai", "z-ai", "ft"])
def test_no_new_provider_takes_such_a_name(api, assert_refused, slug):
    body = {"providerId": slug, "name": "x", "baseUrl": "https://own.example.com"}

    assert_refused(api.post("/providers", body), 422, "provider_id_reserved", "providerId")


@pytest.mark.parametrize(
    ("slug", "entry", "pair"), [("moonshotai", "moonshotai:a", ("moonshotai", "a")), ("ft", "ft:a:b", ("ft", "a:b"))]
)
def test_a_provider_that_an_account_had_before_keeps_its_name(api, account, slug, entry, pair):
    make_provider(account, slug=slug)

    answer = api.post(URL, {"name": "n", "access": {"models": {"allow": [entry]}}})

    assert answer.status_code == 201, answer.json()
    assert published(account).scope.models == (pair,)
