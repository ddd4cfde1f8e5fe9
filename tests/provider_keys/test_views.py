"""Holds: provider_keys.views

`/provider-keys` on the wire (contract, section 4).
"""

import base64
import hashlib
import re

import orjson
import pytest

from configurations.services import create_configuration
from gateway_core import ids
from gateway_core.sealing import Binding, Keyring
from provider_keys.models import ProviderKey
from snapshots.models import Change
from tests.rows import make_provider

VALUE = "sk-proj-0123456789abcdefghijklmnopqrstuvwx"
GOOD = {"providerId": "openai", "name": "production", "value": VALUE}


@pytest.fixture
def provider_key(api):
    return api.post("/provider-keys", GOOD).json()


def opened(keyring_text, account, text_id):
    """What a worker would find in the row."""
    row = ProviderKey.objects.get(id=ids.from_text(ids.Prefix.PROVIDER_KEY, text_id))
    return Keyring.parse(keyring_text).open(bytes(row.sealed), Binding(account.text_id, row.provider, row.text_id))


def test_a_created_provider_key_shows_its_mask_and_where_it_is(api, principal):
    answer = api.post("/provider-keys", {**GOOD, "description": "billing: ops", "metadata": '{"team":\t"a"}\n'})

    assert answer.status_code == 201
    body = answer.json()
    author = {"id": principal.id, "uri": f"http://testserver/api-keys/{principal.id}"}
    assert body == {
        "id": body["id"],
        "uri": f"http://testserver/provider-keys/{body['id']}",
        "createdAt": body["createdAt"],
        "updatedAt": body["createdAt"],
        "createdBy": author,
        "lastUpdatedBy": author,
        "providerId": "openai",
        "name": "production",
        "description": "billing: ops",
        "metadata": '{"team":\t"a"}\n',
        "keyRedacted": "sk-proj-01***uvwx",
        "lastUsed": None,
    }
    assert re.fullmatch(r"aigpk_[0-7][0-9a-hjkmnp-tv-z]{25}", body["id"])
    assert answer.headers["Location"] == body["uri"]


def test_an_object_without_description_and_metadata_leaves_them_out(provider_key):
    assert not {"description", "metadata", "value"} & set(provider_key)


def test_what_was_created_reads_back_the_same_with_the_same_etag(api):
    created = api.post("/provider-keys", GOOD)

    read = api.get(created.json()["uri"])

    assert read.status_code == 200
    assert read.json() == created.json()
    assert read.headers["ETag"] == created.headers["ETag"]
    head = api.request("HEAD", created.json()["uri"])
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", read.headers["ETag"])


def test_the_value_is_sealed_for_the_data_plane_and_trimmed(api, account, sealing_private_key):
    body = api.post("/provider-keys", {**GOOD, "value": f" \n{VALUE}\u00a0\r\n"}).json()

    assert opened(sealing_private_key, account, body["id"]) == VALUE
    assert body["keyRedacted"] == "sk-proj-01***uvwx"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1234567", "***"),
        ("12345678", "12***"),
        ("abcdefghijkl", "abc***l"),
        ("a" * 23, "aaaaa***aa"),
        ("abcdefghij0123456789klmn", "abcdefghij***klmn"),
    ],
)
def test_short_values_show_less(api, value, shown):
    assert api.post("/provider-keys", {**GOOD, "value": value}).json()["keyRedacted"] == shown


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param({"providerId": ...}, "providerId", id="no provider"),
        pytest.param({"providerId": None}, "providerId", id="provider null"),
        pytest.param({"providerId": 7}, "providerId", id="provider no string"),
        pytest.param({"providerId": ""}, "providerId", id="provider empty"),
        pytest.param({"providerId": "x" * 256}, "providerId", id="provider too long"),
        pytest.param({"name": ...}, "name", id="no name"),
        pytest.param({"name": None}, "name", id="name null"),
        pytest.param({"name": ""}, "name", id="name empty"),
        pytest.param({"name": 7}, "name", id="name no string"),
        pytest.param({"name": "x" * 256}, "name", id="name too long"),
        pytest.param({"name": "a\tb"}, "name", id="name with a tab"),
        pytest.param({"value": ...}, "value", id="no value"),
        pytest.param({"value": None}, "value", id="value null"),
        pytest.param({"value": 12345678}, "value", id="value no string"),
        pytest.param({"value": ["a"]}, "value", id="value a list"),
        pytest.param({"value": ""}, "value", id="value empty"),
        pytest.param({"value": " \n\t"}, "value", id="value of white space"),
        pytest.param({"value": "a b"}, "value", id="white space within the value"),
        pytest.param({"value": "a\u200bb"}, "value", id="zero-width space in the value"),
        pytest.param({"value": "clé"}, "value", id="non-ASCII in the value"),
        pytest.param({"value": "a\x01b"}, "value", id="a control character in the value"),
        pytest.param({"value": "x" * 4097}, "value", id="value too long"),
        pytest.param({"description": None}, "description", id="description null in a POST"),
        pytest.param({"description": "x" * 256}, "description", id="description too long"),
        pytest.param({"description": "a\x07"}, "description", id="a bell in the description"),
        pytest.param({"metadata": None}, "metadata", id="metadata null in a POST"),
        pytest.param({"metadata": {"a": 1}}, "metadata", id="metadata no string"),
        pytest.param({"metadata": "x" * 4097}, "metadata", id="metadata too long"),
        pytest.param({"keyRedacted": "a"}, "keyRedacted", id="a field that is read-only"),
        pytest.param({"id": "a"}, "id", id="an ID of the client's choosing"),
    ],
)
def test_a_provider_key_that_breaks_a_rule_is_refused_at_its_path(api, account, assert_refused, change, path):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not ...}

    details = assert_refused(api.post("/provider-keys", body), 422, "invalid_request", path)

    assert set(details) == {path}
    assert not account.providerkey_set.exists()


def test_all_faults_are_told_at_once(api, assert_refused):
    body = {"name": "", "valeu": VALUE, "metadata": 7}

    details = assert_refused(api.post("/provider-keys", body), 422, "invalid_request")

    assert set(details) == {"providerId", "name", "value", "valeu", "metadata"}
    assert "did you mean value?" in details["valeu"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [("opnai", "openai"), ("OpenAI", "openai"), ("my-olama", "my-ollama"), ("antropic", "anthropic")],
)
def test_an_unknown_provider_is_refused_with_the_nearest_known_one(api, account, assert_refused, written, hint):
    make_provider(account)

    answer = api.post("/provider-keys", {**GOOD, "providerId": written})

    details = assert_refused(answer, 422, "provider_unknown", "providerId")
    assert hint in details["providerId"]
    assert not account.providerkey_set.exists()


def test_a_value_in_the_provider_s_place_is_not_echoed(api, assert_refused):
    answer = api.post("/provider-keys", {**GOOD, "providerId": VALUE})

    assert_refused(answer, 422, "provider_unknown", "providerId")
    assert "0123456789" not in answer.content.decode()


@pytest.mark.parametrize("by_id", [False, True], ids=["by providerId", "by aigp_ ID"])
def test_a_key_of_a_custom_provider_echoes_the_provider_as_it_was_named(api, account, sealing_private_key, by_id):
    provider = make_provider(account)
    written = provider.text_id if by_id else "my-ollama"

    body = api.post("/provider-keys", {**GOOD, "providerId": written}).json()

    assert body["providerId"] == written
    row = ProviderKey.objects.get()
    assert (row.provider, row.custom_provider) == ("my-ollama", provider)
    assert opened(sealing_private_key, account, body["id"]) == VALUE
    for filtered in ("my-ollama", provider.text_id):
        assert len(api.get(f"/provider-keys?provider={filtered}").json()["aiGatewayProviderKeys"]) == 1


@pytest.mark.parametrize("by_id", [False, True], ids=["by providerId", "by aigp_ ID"])
def test_a_stranger_s_custom_provider_is_unknown(api, other_account, assert_refused, by_id):
    provider = make_provider(other_account)

    answer = api.post("/provider-keys", {**GOOD, "providerId": provider.text_id if by_id else "my-ollama"})

    assert_refused(answer, 422, "provider_unknown", "providerId")


def test_the_list_is_newest_first_and_pages_with_its_filter(api):
    made = [api.post("/provider-keys", {**GOOD, "name": str(n)}).json()["id"] for n in range(5)]
    api.post("/provider-keys", {**GOOD, "providerId": "groq"})

    page = api.get("/provider-keys?provider=openai&limit=3").json()

    assert set(page) == {"aiGatewayProviderKeys", "uri", "nextPageUri"}
    assert [key["id"] for key in page["aiGatewayProviderKeys"]] == made[:1:-1]
    assert page["uri"] == "http://testserver/provider-keys?provider=openai&limit=3"
    rest = api.get(page["nextPageUri"]).json()
    assert [key["id"] for key in rest["aiGatewayProviderKeys"]] == made[1::-1]
    assert rest["nextPageUri"] is None


@pytest.mark.parametrize("unknown", ["nobody", "", "OPENAI", "aigp_01h455vb4pex5vsknk084sn02q", "%00", "%ff"])
def test_the_filter_for_an_unknown_provider_finds_nothing(api, provider_key, unknown):
    answer = api.get(f"/provider-keys?provider={unknown}")

    assert (answer.status_code, answer.json()["aiGatewayProviderKeys"]) == (200, [])


def test_the_filter_given_twice_is_refused(api, assert_refused):
    assert_refused(api.get("/provider-keys?provider=openai&provider=groq"), 400, "query_invalid", "provider")


def test_a_patch_changes_what_is_given_and_clears_what_is_null(api, bob, provider_key):
    given = {"name": "new", "description": "d", "metadata": "m"}
    changed = bob.patch(provider_key["uri"], given)

    assert changed.status_code == 200
    body = changed.json()
    assert {name: body[name] for name in given} == given
    assert body["updatedAt"] > provider_key["updatedAt"]
    assert body["lastUpdatedBy"] != body["createdBy"] == provider_key["createdBy"]
    cleared = api.patch(provider_key["uri"], {"description": None, "metadata": None}).json()
    assert not {"description", "metadata"} & set(cleared)
    assert cleared["name"] == "new"


def test_an_empty_patch_changes_nothing_and_publishes_nothing(bob, provider_key):
    Change.objects.all().delete()

    answer = bob.patch(provider_key["uri"], {})

    assert (answer.status_code, answer.json()) == (200, provider_key)
    assert not Change.objects.exists()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"value": VALUE}, "value"),
        ({"providerId": "groq"}, "providerId"),
        ({"description": 1}, "description"),
        ({"metadata": "x" * 4097}, "metadata"),
        ({"nmae": "a"}, "nmae"),
    ],
)
def test_a_patch_that_breaks_a_rule_is_refused_at_its_path(api, provider_key, assert_refused, change, path):
    assert_refused(api.patch(provider_key["uri"], change), 422, "invalid_request", path)

    assert api.get(provider_key["uri"]).json() == provider_key


def test_rotating_puts_a_new_value_and_name_under_the_same_id(api, bob, account, provider_key, sealing_private_key):
    before = ProviderKey.objects.get()

    answer = bob.post(f"{provider_key['uri']}/rotate", {"name": "2027", "value": "gsk_" + "b" * 30})

    assert answer.status_code == 200
    assert "Location" not in answer.headers
    body = answer.json()
    assert body["lastUpdatedBy"] != provider_key["lastUpdatedBy"]
    assert body["updatedAt"] > provider_key["updatedAt"]
    changed = {"name": "2027", "keyRedacted": "gsk_bbbbbb***bbbb"}
    kept = {name: provider_key[name] for name in provider_key if name not in {"updatedAt", "lastUpdatedBy", *changed}}
    assert {name: body[name] for name in {**kept, **changed}} == {**kept, **changed}
    assert opened(sealing_private_key, account, body["id"]) == "gsk_" + "b" * 30
    after = ProviderKey.objects.get()
    assert before.fingerprint != after.fingerprint


def test_the_fingerprint_tells_that_a_value_came_back(api, provider_key):
    first = ProviderKey.objects.get().fingerprint
    assert first != hashlib.sha256(VALUE.encode()).hexdigest()

    api.post(f"{provider_key['uri']}/rotate", {"name": "a", "value": VALUE})

    assert ProviderKey.objects.get().fingerprint == first


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"name": "a"}, {"value"}),
        ({"value": VALUE}, {"name"}),
        ({}, {"name", "value"}),
        ({"name": None, "value": None}, {"name", "value"}),
        ({"name": "", "value": "a b"}, {"name", "value"}),
        ({"name": "a", "value": VALUE, "description": "d"}, {"description"}),
        ({"name": "a", "value": VALUE, "providerId": "openai"}, {"providerId"}),
    ],
)
def test_a_rotation_that_breaks_a_rule_is_refused_and_keeps_the_old_value(
    api, account, provider_key, assert_refused, sealing_private_key, body, paths
):
    details = assert_refused(api.post(f"{provider_key['uri']}/rotate", body), 422, "invalid_request")

    assert set(details) == paths
    assert opened(sealing_private_key, account, provider_key["id"]) == VALUE
    assert api.get(provider_key["uri"]).json() == provider_key


def test_a_deleted_provider_key_is_gone(api, provider_key, assert_refused):
    answer = api.delete(provider_key["uri"])

    assert (answer.status_code, answer.content) == (204, b"")
    assert_refused(api.get(provider_key["uri"]), 404, "not_found")
    assert_refused(api.delete(provider_key["uri"]), 404, "not_found")
    assert_refused(api.post(f"{provider_key['uri']}/rotate", {"name": "a", "value": "bcd"}), 404, "not_found")
    assert api.get("/provider-keys").json()["aiGatewayProviderKeys"] == []


def test_a_provider_key_that_a_rule_names_is_not_deleted_and_up_to_ten_configurations_are_told(
    api, account, principal, provider_key, assert_refused
):
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": provider_key["id"]}]}]}]
    made = [
        create_configuration(account=account, by=principal, name=f"team {n}", router={"rules": rules})
        for n in range(12)
    ]

    details = assert_refused(api.delete(provider_key["uri"]), 409, "provider_key_in_use")

    assert details == {configuration.text_id: configuration.name for configuration in made[:1:-1]}
    assert api.get(provider_key["uri"]).json() == provider_key


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE", "POST"])
def test_a_stranger_s_provider_key_does_not_exist(other_api, provider_key, method):
    path, body = provider_key["uri"], {"name": "a"}
    if method == "POST":
        path, body = f"{path}/rotate", {"name": "a", "value": "bcd"}

    assert other_api.request(method, path, body).status_code == 404
    assert other_api.get("/provider-keys").json()["aiGatewayProviderKeys"] == []
    assert ProviderKey.objects.get().name == "production"


@pytest.mark.parametrize("text_id", ["nonsense", "aigk_01h455vb4pex5vsknk084sn02q", "aigpk_01H455VB4PEX5VSKNK084SN02Q"])
def test_an_id_of_another_kind_is_not_found(api, assert_refused, text_id):
    assert_refused(api.get(f"/provider-keys/{text_id}"), 404, "not_found")
    assert_refused(api.post(f"/provider-keys/{text_id}/rotate", {"name": "a", "value": "b"}), 404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_rotate_is_a_post_alone(api, provider_key, assert_refused, method):
    answer = api.request(method, f"{provider_key['uri']}/rotate", {})

    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("write", ["patch", "delete", "rotate"])
def test_a_stale_etag_changes_nothing(api, bob, provider_key, assert_refused, write):
    stale = api.get(provider_key["uri"]).headers["ETag"]
    bob.patch(provider_key["uri"], {"description": "newer"})
    newer = api.get(provider_key["uri"]).json()

    if write == "patch":
        answer = api.patch(provider_key["uri"], {"name": "older"}, if_match=stale)
    elif write == "delete":
        answer = api.delete(provider_key["uri"], if_match=stale)
    else:
        answer = api.post(f"{provider_key['uri']}/rotate", {"name": "older", "value": "bcd"}, if_match=stale)

    assert_refused(answer, 412, "precondition_failed")
    assert api.get(provider_key["uri"]).json() == newer


def test_a_repeated_create_with_an_idempotency_key_stores_one_provider_key(api, account):
    first = api.post("/provider-keys", GOOD, idempotency_key="once")
    again = api.post("/provider-keys", GOOD, idempotency_key="once")

    assert (again.status_code, again.json()) == (201, first.json())
    assert account.providerkey_set.count() == 1


def test_a_body_that_is_not_json_is_not_echoed(api, assert_refused):
    answer = api.post("/provider-keys", orjson.dumps(GOOD)[:-2])

    assert_refused(answer, 400, "json_invalid")
    assert base64.b64encode(VALUE.encode()) not in answer.content
    assert b"0123456789" not in answer.content
