"""Holds: accounts.views, accounts.services, accounts.heirs

API keys over the wire (contract, section 6).
"""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import services
from accounts.models import ApiKey
from accounts.principals import Principal
from gateway_core import ids, tokens
from rest.errors import ApiKeyInvalid
from tests.fixtures import Api

ALWAYS = {"id", "uri", "createdAt", "updatedAt", "createdBy", "lastUpdatedBy", "keyRedacted", "lastUsed"}


def test_an_api_key_with_nothing_set_shows_what_is_always_there(api):
    body = api.post("api-keys", {}).json()

    assert set(body) == ALWAYS | {"token"}
    assert body["lastUsed"] is None
    assert body["createdAt"] == body["updatedAt"]
    assert body["uri"] == f"http://testserver/api-keys/{body['id']}"
    assert ids.from_text(ids.Prefix.API_KEY, body["id"])


def test_an_api_key_shows_what_was_set(api, principal):
    given = {"name": "ci", "description": "two\nlines", "metadata": '{"a": "\t"}'}

    created = api.post("api-keys", given)

    body = created.json()
    assert {name: body[name] for name in given} == given
    assert body["createdBy"] == body["lastUpdatedBy"]
    assert body["createdBy"] == {"id": principal.id, "uri": f"http://testserver/api-keys/{principal.id}"}
    assert created["Location"] == body["uri"]
    assert created["Cache-Control"] == "no-store"


def test_the_token_works_and_is_shown_once_and_stored_nowhere(api):
    body = api.post("api-keys", {"name": "ci"}).json()
    token = body.pop("token")

    assert tokens.is_well_formed(tokens.API_KEY_PREFIX, token)
    assert Api(token).get("api-keys").status_code == 200
    assert body["keyRedacted"] == f"{token[:10]}***{token[-4:]}"
    for answer in (api.get(body["uri"]), api.get("api-keys"), api.patch(body["uri"], {"name": "x"})):
        assert token not in answer.content.decode()
        assert "token" not in answer.json()
    row = ApiKey.objects.filter(id=ids.from_text(ids.Prefix.API_KEY, body["id"])).values().get()
    assert token not in json.dumps(row, default=str)
    assert row["digest"] == tokens.digest(token)


def test_a_patch_changes_what_is_given_and_says_who_did_it(api, bob):
    before = api.post("api-keys", {"name": "a", "description": "b", "metadata": "c"}).json()

    after = bob.patch(before["uri"], {"name": "x", "metadata": None}).json()

    assert (after["name"], after["description"], "metadata" in after) == ("x", "b", False)
    assert after["updatedAt"] > before["updatedAt"]
    assert after["createdAt"] == before["createdAt"]
    assert after["createdBy"] == before["createdBy"] != after["lastUpdatedBy"]
    assert api.get(before["uri"]).json() == after


def test_an_empty_patch_changes_nothing_not_even_the_time(api, bob):
    before = api.post("api-keys", {"name": "a"})
    uri = before.json()["uri"]

    after = bob.patch(uri, {})

    assert after.status_code == 200
    assert after.json() == api.get(uri).json()
    assert {**after.json(), "token": before.json()["token"]} == before.json()
    assert after["ETag"] == before["ETag"]


def test_extensions_are_shown_only_where_they_are_used(api):
    plain = api.post("api-keys", {}).json()
    used = api.post("api-keys", {"disabled": True, "expiresAt": "2030-01-01T02:00:00+02:00"}).json()
    cleared = api.patch(used["uri"], {"disabled": None, "expiresAt": None}).json()

    assert set(plain) == ALWAYS | {"token"}
    assert (used["disabled"], used["expiresAt"]) == (True, "2030-01-01T00:00:00Z")
    assert set(cleared) == ALWAYS


def test_who_made_a_key_is_kept_when_the_maker_is_gone(api, bob):
    maker = api.post("api-keys", {}).json()
    made = Api(maker["token"]).post("api-keys", {}).json()

    assert api.delete(maker["uri"]).status_code == 204
    assert bob.get(made["uri"]).json()["createdBy"]["id"] == maker["id"]


def test_a_deleted_key_is_gone_and_opens_nothing(api, assert_refused):
    body = api.post("api-keys", {}).json()

    deleted = api.delete(body["uri"])

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert Api(body["token"]).get("api-keys").status_code == 401
    assert_refused(api.get(body["uri"]), 404, "not_found")
    assert_refused(api.patch(body["uri"], {}), 404, "not_found")
    assert_refused(api.delete(body["uri"]), 404, "not_found")


def test_a_key_may_delete_itself_and_be_the_accounts_last(api, principal):
    assert ApiKey.objects.count() == 1

    assert api.delete(f"api-keys/{principal.id}").status_code == 204

    assert ApiKey.objects.count() == 0
    assert api.get("api-keys").status_code == 401


@pytest.mark.parametrize("method", ["get", "delete", "patch"])
def test_another_accounts_key_does_not_exist(api, other_api, assert_refused, method):
    foreign = other_api.post("api-keys", {"name": "theirs"}).json()
    arguments = [{"name": "mine"}] if method == "patch" else []

    assert_refused(getattr(api, method)(foreign["uri"], *arguments), 404, "not_found")

    assert other_api.get(foreign["uri"]).json()["name"] == "theirs"
    assert foreign["id"] not in api.get("api-keys").content.decode()


# Refused in a POST and in a PATCH.
REFUSED = [
    ({"name": 1}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"name": "a\u0000"}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"description": 1}, "description"),
    ({"description": "x" * 256}, "description"),
    ({"metadata": {}}, "metadata"),
    ({"metadata": "x" * 4097}, "metadata"),
    ({"metadata": "\u001b"}, "metadata"),
    ({"disabled": "true"}, "disabled"),
    ({"disabled": 1}, "disabled"),
    ({"expiresAt": "tomorrow"}, "expiresAt"),
    ({"expiresAt": 1893456000}, "expiresAt"),
    ({"id": "aigapi_01h455vb4pex5vsknk084sn02q"}, "id"),
    ({"token": "gwa_x"}, "token"),
    ({"account": "ac_01h455vb4pex5vsknk084sn02q"}, "account"),
    ({"accountId": "ac_01h455vb4pex5vsknk084sn02q"}, "accountId"),
    ({"createdBy": {}}, "createdBy"),
    ({"digest": "0"}, "digest"),
    ({"keyRedacted": None}, "keyRedacted"),
    ({"accessKeyConfigurationId": "aigac_01h455vb4pex5vsknk084sn02q"}, "accessKeyConfigurationId"),
    ([], "$"),
    ("name", "$"),
    (None, "$"),
]


# Refused in a POST; in a PATCH it clears.
NULLS = [({name: None}, name) for name in ("name", "description", "metadata", "disabled", "expiresAt")]


@pytest.mark.parametrize(("body", "path"), [*REFUSED, *NULLS])
def test_a_post_that_breaks_a_rule_is_refused_under_its_path(api, assert_refused, body, path):
    raw = json.dumps(body).encode()

    assert list(assert_refused(api.post("api-keys", raw), 422, "invalid_request", path)) == [path]
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(("body", "path"), REFUSED)
def test_a_patch_that_breaks_a_rule_is_refused_under_its_path(api, principal, assert_refused, body, path):
    uri = f"api-keys/{principal.id}"
    before = api.get(uri).json()

    assert_refused(api.patch(uri, json.dumps(body).encode()), 422, "invalid_request", path)

    assert api.get(uri).json() == before


def test_null_in_a_patch_clears(api):
    used = {"name": "a", "description": "b", "metadata": "c", "disabled": True, "expiresAt": "2030-01-01T00:00:00Z"}
    uri = api.post("api-keys", used).json()["uri"]

    assert set(api.patch(uri, dict.fromkeys(used)).json()) == ALWAYS


def test_a_misspelt_field_is_told_which_one_it_resembles(api, assert_refused):
    details = assert_refused(api.post("api-keys", {"Name": "x", "expires_at": "y"}), 422, "invalid_request")

    assert details == {
        "Name": "There is no such field; did you mean name?",
        "expires_at": "There is no such field; did you mean expiresAt?",
    }


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"name": "\\ud800"}', b'{"a":1,"a":1}', b"[" * 2000 + b"]" * 2000]
)
def test_a_body_that_cannot_be_read_is_400(api, principal, assert_refused, body):
    assert_refused(api.post("api-keys", body), 400, "json_invalid")
    assert_refused(api.patch(f"api-keys/{principal.id}", body), 400, "json_invalid")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"])
def test_a_body_that_is_not_json_is_415(api, principal, assert_refused, content_type):
    assert_refused(api.post("api-keys", b"{}", content_type=content_type), 415, "media_type_unsupported")
    assert_refused(
        api.patch(f"api-keys/{principal.id}", b"{}", content_type=content_type), 415, "media_type_unsupported"
    )


def test_a_body_over_one_mebibyte_is_413(api, assert_refused):
    assert_refused(api.post("api-keys", b" " * (1024 * 1024 + 1)), 413, "body_too_large")


@pytest.mark.parametrize(
    "text_id", ["x", "aigapi_", "aigk_01h455vb4pex5vsknk084sn02q", "AIGAPI_01H455VB4PEX5VSKNK084SN02Q"]
)
def test_an_id_of_another_kind_is_404(api, assert_refused, text_id):
    assert_refused(api.get(f"api-keys/{text_id}"), 404, "not_found")


def test_a_secret_that_is_sent_is_never_repeated(api):
    secret = "sk-marked-0123456789-abcdefghijklmnop"
    bodies = [
        {secret: 1},
        {"name": [secret]},
        {"disabled": secret},
        {"expiresAt": secret},
        {"name": secret * 20},
        [secret],
    ]

    for body in bodies:
        assert secret not in api.post("api-keys", body).content.decode()
    assert secret not in api.post("api-keys", f'{{"name": "{secret}"'.encode()).content.decode()


IN_AN_HOUR = timedelta(hours=1)


def made(by, **body):
    return by.post("api-keys", body).json()


def soon():
    return (timezone.now() + IN_AN_HOUR).replace(microsecond=0)


def test_a_key_that_a_key_made_expires_with_it(api, assert_refused):
    end = soon().isoformat()
    maker = made(api, expiresAt=end)
    heir = made(Api(maker["token"]))
    grandchild = made(Api(heir["token"]))

    assert heir["expiresAt"] == grandchild["expiresAt"] == maker["expiresAt"]
    later = (soon() + IN_AN_HOUR).isoformat()
    assert_refused(Api(heir["token"]).post("api-keys", {"expiresAt": later}), 422, "invalid_request", "expiresAt")
    earlier = (soon() - IN_AN_HOUR / 2).isoformat()
    assert Api(heir["token"]).post("api-keys", {"expiresAt": earlier}).status_code == 201


@pytest.mark.parametrize("later", [None, "2090-01-01T00:00:00Z"])
def test_a_key_lets_neither_itself_nor_another_live_longer(api, assert_refused, later):
    maker = made(api, expiresAt=soon().isoformat())
    heir = made(Api(maker["token"]))
    hands = Api(maker["token"])

    for one in (maker, heir):
        assert_refused(hands.patch(one["uri"], {"expiresAt": later}), 422, "invalid_request", "expiresAt")
        assert hands.get(one["uri"]).json()["expiresAt"] == maker["expiresAt"]


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("end", ["deleted", "disabled", "expired"])
def test_a_key_that_a_key_made_is_refused_when_a_maker_has_expired_and_only_then(api, depth, end):
    maker = made(api)
    token = maker["token"]
    for _ in range(depth):
        token = made(Api(token))["token"]
    assert Api(token).get("api-keys").status_code == 200

    match end:
        case "deleted":
            api.delete(maker["uri"])
        case "disabled":
            api.patch(maker["uri"], {"disabled": True})
        case _:
            ApiKey.objects.filter(id=ids.from_text(ids.Prefix.API_KEY, maker["id"])).update(expires_at=timezone.now())

    assert Api(token).get("api-keys").status_code == (401 if end == "expired" else 200)


def test_a_key_that_a_person_made_has_no_maker_to_end_with(account):
    person = Principal("usr_01h455vb4pex5vsknk084sn02q")
    issued = services.create_api_key(account=account, by=person)

    ApiKey.objects.exclude(id=issued.api_key.id).delete()

    assert Api(issued.token).get("api-keys").status_code == 200


def test_a_key_that_is_deleted_while_its_request_runs_makes_no_key(account, principal):
    ApiKey.objects.all().delete()

    with pytest.raises(ApiKeyInvalid):
        services.create_api_key(account=account, by=principal)

    assert not ApiKey.objects.exists()
