"""Holds: configurations.views

`/access-key-configurations` on the wire, but for the rules of access and router (contract, section 3).
"""

from typing import Any

import orjson
import pytest

from access_keys.services import create_access_key
from configurations.models import Configuration
from provider_keys.models import ProviderKey
from snapshots.models import Change
from tests.rows import make_provider

URL = "/access-key-configurations"


@pytest.fixture
def key_id(api):
    body = {"providerId": "openai", "name": "stored", "value": "sk-0123456789abcdefghijklmnop"}
    return api.post("/provider-keys", body).json()["id"]


@pytest.fixture
def configuration(api, key_id):
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": key_id}]}]}]
    body = {"name": "team a", "access": {"providers": {"allow": ["openai"]}}, "router": {"rules": rules}}
    return api.post(URL, body).json()


def test_a_configuration_needs_nothing_but_a_name(api, principal):
    answer = api.post(URL, {"name": "team a"})

    assert answer.status_code == 201
    body = answer.json()
    author = {"id": principal.id, "uri": f"http://testserver/api-keys/{principal.id}"}
    assert body == {
        "id": body["id"],
        "uri": f"http://testserver{URL}/{body['id']}",
        "createdAt": body["createdAt"],
        "updatedAt": body["createdAt"],
        "createdBy": author,
        "lastUpdatedBy": author,
        "name": "team a",
    }
    assert body["id"].startswith("aigac_")
    assert answer.headers["Location"] == body["uri"]


def test_a_whole_configuration_is_echoed_as_it_was_written(api, account, key_id):
    provider = make_provider(account)
    access = {
        "providers": {"allow": ["openai", provider.text_id, "groq"]},
        "models": {"allow": ["openai:GPT-4o", "meta-llama/llama-3.3-70b-instruct", "my-ollama:x:y", "openai/gpt-4o"]},
    }
    rules: list[Any] = [
        {
            "provider": "openai",
            "model": "openai:openai/gpt-4o",
            "steps": [
                {"type": "user", "keys": [{"id": key_id}], "keySelectionStrategy": "ordered"},
                {"type": "ngrok"},
            ],
        },
        {"provider": "openai", "steps": [{"type": "ngrok", "keySelectionStrategy": "ordered"}]},
        {
            "model": f"{provider.text_id}:llama3.2",
            "steps": [{"type": "user", "keys": [{"name": "inline", "value": " local-key \n"}]}],
        },
    ]
    body = {"name": "n", "description": "d", "metadata": "m", "access": access, "router": {"rules": rules}}

    created = api.post(URL, body)

    assert created.status_code == 201, created.json()
    shown = created.json()
    inline = ProviderKey.objects.get(name="inline")
    rules[0]["steps"][0]["keys"] = [{"id": key_id, "name": "stored", "keyRedacted": "sk-0123456***mnop"}]
    rules[2]["steps"][0]["keys"] = [{"id": inline.text_id, "name": "inline", "keyRedacted": "lo***y"}]
    assert {name: shown[name] for name in body} == {**body, "router": {"rules": rules}}
    read = api.get(shown["uri"])
    assert (read.json(), read.headers["ETag"]) == (shown, created.headers["ETag"])
    assert api.get(URL).json()["aiGatewayAccessKeyConfigurations"] == [shown]
    assert list(read.json()["router"]["rules"][0]) == ["provider", "model", "steps"]
    head = api.request("HEAD", shown["uri"])
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", read.headers["ETag"])


@pytest.mark.parametrize(
    "access",
    [
        {},
        {"providers": {}},
        {"models": {}},
        {"providers": {"allow": []}},
        {"providers": {"allow": []}, "models": {"allow": []}},
        {"models": {"allow": ["openai:a-model-of-tomorrow", "a/b/c"]}},
    ],
)
def test_missing_and_empty_are_different_and_both_are_echoed(api, access):
    assert api.post(URL, {"name": "n", "access": access}).json()["access"] == access


def test_a_router_without_rules_is_one_without_rules(api):
    assert api.post(URL, {"name": "n", "router": {"rules": []}}).json()["router"] == {"rules": []}


def test_a_router_shows_its_keys_as_they_are_called_now(api, key_id, configuration):
    api.post(f"/provider-keys/{key_id}/rotate", {"name": "rotated", "value": "gsk_" + "b" * 30})

    shown = api.get(configuration["uri"]).json()["router"]["rules"][0]["steps"][0]["keys"]
    assert shown == [{"id": key_id, "name": "rotated", "keyRedacted": "gsk_bbbbbb***bbbb"}]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param({"name": ...}, "name", id="no name"),
        pytest.param({"name": None}, "name", id="name null"),
        pytest.param({"name": " "}, "name", id="name of white space"),
        pytest.param({"name": 7}, "name", id="name no string"),
        pytest.param({"name": "x" * 256}, "name", id="name too long"),
        pytest.param({"description": None}, "description", id="description null in a POST"),
        pytest.param({"description": "x" * 256}, "description", id="description too long"),
        pytest.param({"metadata": None}, "metadata", id="metadata null in a POST"),
        pytest.param({"metadata": []}, "metadata", id="metadata no string"),
        pytest.param({"metadata": "x" * 4097}, "metadata", id="metadata too long"),
        pytest.param({"access": None}, "access", id="access null in a POST"),
        pytest.param({"router": None}, "router", id="router null in a POST"),
        pytest.param({"acess": {}}, "acess", id="an unknown field"),
        pytest.param({"access": []}, "access", id="access a list"),
        pytest.param({"access": "all"}, "access", id="access a string"),
        pytest.param({"access": False}, "access", id="access a boolean"),
        pytest.param({"router": []}, "router", id="router a list"),
        pytest.param({"router": 0}, "router", id="router a number"),
        pytest.param({"router": {}}, "router.rules", id="router without rules"),
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused_at_its_path(api, account, assert_refused, change, path):
    body = {name: value for name, value in {"name": "n", **change}.items() if value is not ...}

    code = "configuration_invalid" if body.get("access", body.get("router")) is not None else "invalid_request"
    details = assert_refused(api.post(URL, body), 422, code, path)

    assert set(details) == {path}
    assert not account.configuration_set.exists()


@pytest.mark.parametrize("body", [[], "a", 7, None])
def test_a_body_that_is_no_object_is_refused(api, assert_refused, body):
    assert_refused(api.post(URL, orjson.dumps(body)), 422, "invalid_request", "$")


def test_every_fault_of_form_access_and_router_is_told_in_one_answer(api, account, assert_refused):
    body = {
        "descripton": "d",
        "metadata": 7,
        "access": {"providers": {"allow": ["opnai"]}, "models": {"allow": ["gpt-4o"]}, "extra": 1},
        "router": {
            "rules": [
                {"provider": "anthropic", "steps": []},
                {"provider": "groq", "steps": [{"type": "ngrok", "kyes": []}, {"type": "user", "keys": [{}]}]},
            ]
        },
    }

    details = assert_refused(api.post(URL, body), 422, "configuration_invalid")

    assert set(details) == {
        "name",
        "descripton",
        "metadata",
        "access.providers.allow[0]",
        "access.models.allow[0]",
        "access.extra",
        "router.rules[0].steps",
        "router.rules[1].steps[0].type",
        "router.rules[1].steps[0].kyes",
        "router.rules[1].steps[1].keys[0]",
    }


def test_a_patch_replaces_access_and_router_whole_and_leaves_the_rest(api, configuration, key_id):
    access = {"models": {"allow": ["groq:openai/gpt-oss-120b"]}}

    patched = api.patch(configuration["uri"], {"access": access})

    assert patched.status_code == 200
    assert patched.json()["access"] == access
    assert patched.json()["router"] == configuration["router"]
    again = api.patch(configuration["uri"], {"router": {"rules": []}}).json()
    assert (again["access"], again["router"], again["name"]) == (access, {"rules": []}, "team a")
    assert api.delete(f"/provider-keys/{key_id}").status_code == 204


@pytest.mark.parametrize("changed", ["access", "router"])
def test_a_custom_provider_stays_held_while_either_half_names_it(api, account, changed):
    provider = make_provider(account)
    access = {"models": {"allow": [f"{provider.text_id}:llama3.2"]}}
    key = {"name": "inline", "value": "local-key"}
    router = {"rules": [{"provider": "my-ollama", "steps": [{"type": "user", "keys": [key]}]}]}
    path = api.post(URL, {"name": "n", "access": access, "router": router}).json()["uri"]
    key_id = ProviderKey.objects.get().text_id

    api.patch(path, {changed: None})

    row = Configuration.objects.get()
    assert [held.provider for held in row.named_providers.all()] == [provider]
    api.patch(path, {"access": None, "router": None})
    assert not row.named_providers.exists()
    assert api.delete(f"/provider-keys/{key_id}").status_code == 204


def test_null_clears(api, configuration):
    api.patch(configuration["uri"], {"description": "d", "metadata": "m"})

    cleared = api.patch(
        configuration["uri"], {"description": None, "metadata": None, "access": None, "router": None}
    ).json()

    assert not {"description", "metadata", "access", "router"} & set(cleared)
    row = Configuration.objects.get()
    assert (row.access, row.router, row.routed_keys.count()) == (None, None, 0)
    assert Configuration.objects.filter(access__isnull=True, router__isnull=True).exists(), "SQL NULL, not JSON's"


def test_an_empty_patch_changes_nothing_and_publishes_nothing(bob, configuration):
    Change.objects.all().delete()

    answer = bob.patch(configuration["uri"], {})

    assert (answer.status_code, answer.json()) == (200, configuration)
    assert not Change.objects.exists()


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"name": None}, "name", "invalid_request"),
        ({"name": ""}, "name", "invalid_request"),
        ({"description": 7}, "description", "invalid_request"),
        ({"rules": []}, "rules", "invalid_request"),
        ({"id": "aigac_01h455vb4pex5vsknk084sn02q"}, "id", "invalid_request"),
        ({"access": {"providers": ["openai"]}}, "access.providers", "configuration_invalid"),
        ({"router": {"rules": None}}, "router.rules", "configuration_invalid"),
    ],
)
def test_a_patch_that_breaks_a_rule_is_refused_and_changes_nothing(
    api, configuration, assert_refused, change, path, code
):
    assert_refused(api.patch(configuration["uri"], {"metadata": "new", **change}), 422, code, path)

    assert api.get(configuration["uri"]).json() == configuration


def test_a_refused_router_leaves_no_provider_key_behind(api, account, configuration, assert_refused):
    before = account.providerkey_set.count()
    good = {"type": "user", "keys": [{"name": "new", "value": "sk-0123456789"}]}
    router = {"rules": [{"provider": "groq", "steps": [good]}, {"provider": "nobody-like-that", "steps": [good]}]}

    for answer in (
        api.post(URL, {"name": "n", "router": router}),
        api.patch(configuration["uri"], {"router": router}),
    ):
        assert_refused(answer, 422, "configuration_invalid", "router.rules[1].provider")

    assert account.providerkey_set.count() == before
    assert account.configuration_set.count() == 1
    assert api.get(configuration["uri"]).json() == configuration


def test_the_list_is_newest_first(api):
    made = [api.post(URL, {"name": str(n)}).json() for n in range(3)]

    page = api.get(f"{URL}?limit=2").json()

    assert page["aiGatewayAccessKeyConfigurations"] == [made[2], made[1]]
    rest = api.get(page["nextPageUri"]).json()
    assert (rest["aiGatewayAccessKeyConfigurations"], rest["nextPageUri"]) == ([made[0]], None)


def test_a_page_costs_the_same_number_of_queries_however_many_configurations_it_shows(
    api, configuration, django_assert_max_num_queries
):
    for n in range(5):
        api.post(URL, {"name": str(n), "router": {"rules": configuration_rules(configuration)}})

    with django_assert_max_num_queries(3):
        assert len(api.get(URL).json()["aiGatewayAccessKeyConfigurations"]) == 6


def configuration_rules(configuration):
    rules = configuration["router"]["rules"]
    return [
        {**rule, "steps": [{"type": "user", "keys": [{"id": rule["steps"][0]["keys"][0]["id"]}]}]} for rule in rules
    ]


def test_a_deleted_configuration_is_gone_and_its_provider_keys_stay(api, configuration, key_id, assert_refused):
    assert api.delete(configuration["uri"]).status_code == 204

    assert_refused(api.get(configuration["uri"]), 404, "not_found")
    assert_refused(api.delete(configuration["uri"]), 404, "not_found")
    assert_refused(api.patch(configuration["uri"], {"name": "a"}), 404, "not_found")
    assert api.get(f"/provider-keys/{key_id}").status_code == 200
    assert api.delete(f"/provider-keys/{key_id}").status_code == 204


def test_a_linked_configuration_is_not_deleted_and_up_to_ten_access_keys_are_told(
    api, account, principal, configuration, assert_refused
):
    identity = Configuration.objects.get().id
    made = [
        create_access_key(
            account=account, by=principal, configuration_id=identity, name=f"app {n}" if n else None
        ).access_key
        for n in range(12)
    ]

    details = assert_refused(api.delete(configuration["uri"]), 409, "configuration_in_use")

    assert details == {key.text_id: key.name for key in made[:1:-1]}
    for key in made[1:]:
        key.delete()
    details = assert_refused(api.delete(configuration["uri"]), 409, "configuration_in_use")
    assert details == {made[0].text_id: made[0].key_redacted}
    assert api.get(configuration["uri"]).json() == configuration


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_a_stranger_s_configuration_does_not_exist(api, other_api, configuration, method):
    assert other_api.request(method, configuration["uri"], {"name": "a"}).status_code == 404

    assert other_api.get(URL).json()["aiGatewayAccessKeyConfigurations"] == []
    assert api.get(configuration["uri"]).json() == configuration


@pytest.mark.parametrize("text_id", ["nonsense", "aigk_01h455vb4pex5vsknk084sn02q", "aigac_81h455vb4pex5vsknk084sn02q"])
def test_an_id_of_another_kind_is_not_found(api, assert_refused, text_id):
    assert_refused(api.get(f"{URL}/{text_id}"), 404, "not_found")


@pytest.mark.parametrize("write", ["patch", "delete"])
def test_a_stale_etag_changes_nothing(api, bob, configuration, assert_refused, write):
    stale = api.get(configuration["uri"]).headers["ETag"]
    newer = bob.patch(configuration["uri"], {"router": None}).json()

    if write == "patch":
        answer = api.patch(configuration["uri"], {"name": "older"}, if_match=stale)
    else:
        answer = api.delete(configuration["uri"], if_match=stale)

    assert_refused(answer, 412, "precondition_failed")
    assert api.get(configuration["uri"]).json() == newer


def test_a_repeated_create_with_an_idempotency_key_stores_its_inline_key_once(api, account):
    key = {"name": "inline", "value": "sk-0123456789"}
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [key]}]}]
    body = {"name": "n", "router": {"rules": rules}}

    first, again = (api.post(URL, body, idempotency_key="once") for _ in range(2))

    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert (account.providerkey_set.count(), account.configuration_set.count()) == (1, 1)
