"""Who gets in: a good API key, and nothing like one."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_keys.services import create_access_key
from accounts.models import ApiKey
from gateway_core import tokens
from tests.fixtures import Api


def refuse(api, assert_refused):
    answer = api.get("access-keys")
    assert_refused(answer, 401, "unauthenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_without_a_header_there_is_no_entry(anonymous, assert_refused, db):
    refuse(anonymous, assert_refused)


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer   {}", " Bearer {} "])
def test_the_scheme_is_read_without_case(api, form):
    assert Api().get("access-keys", authorization=form.format(api.token)).status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        "",
        "Bearer",
        "Bearer ",
        "{}",
        "Basic {}",
        "Token {}",
        "Bearer {} x",
        "Bearer {},",
        "Bearer\t{}",
        "Bearer {}x",
        "Bearer x{}",
        "Bearer {}\x00",
        "Bearer ünï",
        "Bearer " + "x" * 8000,
        "Bearer gwa_",
    ],
)
def test_a_malformed_header_is_refused(api, assert_refused, form):
    refuse(Api(authorization=form.format(api.token)), assert_refused)


def test_every_bad_key_gets_the_very_same_answer(api, account, principal):
    issued = api.post("api-keys", {"disabled": True}).json()["token"]
    expired = api.post("api-keys", {"expiresAt": "2020-01-01T00:00:00Z"}).json()["token"]
    unknown = tokens.generate(tokens.API_KEY_PREFIX)
    mistyped = api.token[:-1] + ("a" if api.token[-1] != "a" else "b")
    access = create_access_key(account=account, by=principal).token

    answers = [Api(token).get("access-keys") for token in (issued, expired, unknown, mistyped, access, "nonsense")]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert {answer["WWW-Authenticate"] for answer in answers} == {"Bearer"}


def test_no_refusal_repeats_the_key(api):
    token = api.token[:-1] + "!"

    answer = Api(token).get("access-keys")

    assert token.encode() not in answer.content
    assert token not in str(answer.headers)


def test_a_token_whose_checksum_is_wrong_is_refused_without_a_look_up(api, assert_refused):
    mistyped = api.token[:-1] + ("a" if api.token[-1] != "a" else "b")

    with CaptureQueriesContext(connection) as captured:
        refuse(Api(mistyped), assert_refused)

    assert len(captured) == 0


def test_a_good_key_takes_one_look_up(api):
    with CaptureQueriesContext(connection) as captured:
        api.get("healthz")
        api.get("access-keys/none")

    assert len([query for query in captured if "accounts_apikey" in query["sql"]]) == 1


def test_a_key_opens_until_the_moment_it_expires(api, assert_refused):
    body = api.post("api-keys", {"expiresAt": (timezone.now() + timedelta(hours=1)).isoformat()}).json()
    key = Api(body["token"])
    assert key.get("access-keys").status_code == 200

    ApiKey.objects.filter(name=None).update(expires_at=timezone.now())

    refuse(key, assert_refused)


def test_a_key_that_is_disabled_opens_again_when_it_is_enabled(api, assert_refused):
    body = api.post("api-keys", {}).json()
    key = Api(body["token"])

    api.patch(body["uri"], {"disabled": True})
    refuse(key, assert_refused)
    api.patch(body["uri"], {"disabled": None})

    assert key.get("access-keys").status_code == 200


def test_the_dashboards_session_does_not_open_the_api(client, admin_user, assert_refused):
    client.force_login(admin_user)

    assert_refused(client.get("/access-keys"), 401, "unauthenticated")


def test_lookups_leave_last_used_alone(api):
    api.get("access-keys")

    assert ApiKey.objects.get().last_used is None
