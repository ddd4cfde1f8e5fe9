"""Holds: accounts.authentication

Who gets in: a good API key, and nothing like one.
"""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_keys.services import create_access_key
from accounts.models import ApiKey
from gateway_core import tokens
from rest.preconditions import etag_of
from tests.fixtures import Api


def refuse(api, assert_refused, code="api_key_invalid"):
    answer = api.get("access-keys")
    assert_refused(answer, 401, code)
    assert answer["WWW-Authenticate"] == "Bearer"


def test_without_a_header_there_is_no_entry(anonymous, assert_refused, db):
    refuse(anonymous, assert_refused, "unauthenticated")


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
    refuse(Api(authorization=form.format(api.token)), assert_refused, "unauthenticated")


def test_keys_that_are_not_in_force_get_the_very_same_answer_and_so_does_what_is_not_a_key(api, account, principal):
    issued = api.post("api-keys", {"disabled": True}).json()["token"]
    expired = api.post("api-keys", {"name": "expired"}).json()["token"]
    ApiKey.objects.filter(name="expired").update(expires_at=timezone.now())
    unknown = tokens.generate(tokens.API_KEY_PREFIX)
    mistyped = api.token[:-1] + ("a" if api.token[-1] != "a" else "b")
    access = create_access_key(account=account, by=principal).token

    invalid = [Api(token).get("access-keys") for token in (issued, expired, unknown)]
    malformed = [Api(token).get("access-keys") for token in (mistyped, access, "nonsense", None)]

    for answers, code in ((invalid, "api_key_invalid"), (malformed, "unauthenticated")):
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.content for answer in answers}) == 1
        assert {answer.json()["errorCode"] for answer in answers} == {code}
        assert {answer["WWW-Authenticate"] for answer in answers} == {"Bearer"}


def test_no_refusal_repeats_the_key(api):
    token = api.token[:-1] + "!"

    answer = Api(token).get("access-keys")

    assert token.encode() not in answer.content
    assert token not in str(answer.headers)


def test_a_token_whose_checksum_is_wrong_is_refused_without_a_look_up(api, assert_refused):
    mistyped = api.token[:-1] + ("a" if api.token[-1] != "a" else "b")

    with CaptureQueriesContext(connection) as captured:
        refuse(Api(mistyped), assert_refused, "unauthenticated")

    assert len(captured) == 0


def test_a_good_key_takes_one_look_up(api):
    with CaptureQueriesContext(connection) as captured:
        api.get("healthz")
        api.get("access-keys/none")

    assert (
        len([query for query in captured if query["sql"].startswith("SELECT") and "accounts_apikey" in query["sql"]])
        == 1
    )


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


def test_a_use_is_noted_once_a_minute_and_is_no_change_of_the_key(api):
    before = ApiKey.objects.get()
    now = timezone.now()

    api.get("access-keys")
    first = ApiKey.objects.get()
    api.get("access-keys")
    second = ApiKey.objects.get()
    ApiKey.objects.update(last_used=now - timedelta(seconds=61))
    api.get("access-keys")
    third = ApiKey.objects.get()

    assert before.last_used is None
    assert first.last_used is not None
    assert third.last_used is not None
    assert now <= first.last_used == second.last_used <= third.last_used
    assert etag_of(before) == etag_of(third)


def test_a_refused_key_was_not_used(api):
    ApiKey.objects.update(disabled=True)

    api.get("access-keys")

    assert ApiKey.objects.get().last_used is None


@pytest.mark.django_db(transaction=True)
def test_a_key_that_somebody_works_on_is_not_waited_for(api):
    is_locked, may_end = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            ApiKey.objects.select_for_update().get()
            is_locked.set()
            may_end.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_locked.wait(10)

        assert api.get("access-keys").status_code == 200
    finally:
        may_end.set()
        holder.join()
