"""Holds: account_settings.views, account_settings.services, account_settings.snapshot_documents

`/gateway-config`: one object of an account, always there, obeyed by every request.
"""

import re
import threading

import pytest
from django.db import connection

from account_settings import credits as ledgers
from account_settings import services, snapshot_documents
from account_settings.models import GatewayConfiguration
from account_settings.serializers import DURATION_PATTERN
from accounts.models import Account
from gateway_core.snapshot import SettingsDocument
from snapshots.models import Change
from snapshots.outbox import NotInTransaction

DEFAULTS = {
    "totalTimeout": "120s",
    "perRequestTimeout": "60s",
    "streamTimeout": "30m",
    "maxInputTokens": None,
    "maxOutputTokens": None,
    "metadata": None,
}


@pytest.fixture
def ledger():
    """A ledger in which an account has credits when it is told so."""
    rich: set[Account] = set()
    with ledgers.LEDGER.replaced(lambda accounts: {account.id for account in accounts if account in rich}):
        yield rich


def test_before_any_write_the_defaults_hold(api, account):
    answer = api.get("/gateway-config")

    assert answer.status_code == 200
    assert answer.json() == {"accountId": account.text_id, "uri": "http://testserver/gateway-config", **DEFAULTS}
    assert list(answer.json()) == ["accountId", "uri", *DEFAULTS]


def test_head_answers_like_get_without_a_body(api):
    got, head = api.get("/gateway-config"), api.request("HEAD", "/gateway-config")

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["etag"] == got.headers["etag"]


def test_what_is_written_is_read_as_it_was_written(api):
    wanted = {
        "totalTimeout": "1m30s",
        "perRequestTimeout": "+1.5h",
        "streamTimeout": "2h",
        "maxInputTokens": 1,
        "maxOutputTokens": 2**63 - 1,
        "metadata": "a\tb\nc",
    }

    answer = api.patch("/gateway-config", wanted)

    assert answer.status_code == 200
    assert wanted.items() <= answer.json().items()
    assert api.get("/gateway-config").json() == answer.json()
    assert "location" not in answer.headers


def test_what_is_left_out_stays(api):
    api.patch("/gateway-config", {"totalTimeout": "30s", "maxInputTokens": 5})

    answer = api.patch("/gateway-config", {"perRequestTimeout": "10s"})

    assert answer.json()["totalTimeout"] == "30s"
    assert answer.json()["maxInputTokens"] == 5


def test_null_puts_the_default_back(api):
    api.patch(
        "/gateway-config",
        {"totalTimeout": "1s", "perRequestTimeout": "1s", "maxInputTokens": 5, "maxOutputTokens": 5, "metadata": "x"},
    )

    answer = api.patch("/gateway-config", dict.fromkeys(DEFAULTS))

    assert answer.status_code == 200
    assert DEFAULTS.items() <= answer.json().items()


def test_an_empty_patch_changes_and_publishes_nothing(api, account):
    before = api.get("/gateway-config")

    answer = api.patch("/gateway-config", {})

    assert answer.status_code == 200
    assert answer.json() == before.json()
    assert answer.headers["etag"] == before.headers["etag"]
    assert not Change.objects.filter(account=account).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("totalTimeout", ""),
        ("totalTimeout", "30"),
        ("totalTimeout", "0s"),
        ("totalTimeout", "-5s"),
        ("totalTimeout", "5 s"),
        ("totalTimeout", "5S"),
        ("totalTimeout", "1d"),
        ("totalTimeout", "300000h1000000000h"),
        ("totalTimeout", 30),
        ("totalTimeout", True),
        ("totalTimeout", ["30s"]),
        ("totalTimeout", "30s\x00"),
        ("totalTimeout", "0" * 64 + "1s"),
        ("perRequestTimeout", "soon"),
        ("perRequestTimeout", 1.5),
        ("maxInputTokens", 0),
        ("maxInputTokens", -1),
        ("maxInputTokens", 1.0),
        ("maxInputTokens", "5"),
        ("maxInputTokens", True),
        ("maxInputTokens", 2**63),
        ("maxOutputTokens", 0),
        ("maxOutputTokens", []),
        ("metadata", {"a": 1}),
        ("metadata", "x" * 4097),
        ("metadata", "\x00"),
        ("accountId", "ac_00000000000000000000000000"),
        ("totalTimeouts", "30s"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_by_its_path_and_changes_nothing(api, assert_refused, field, value):
    answer = api.patch("/gateway-config", {"maxInputTokens": 7, field: value})

    assert_refused(answer, 422, "invalid_request", field)
    assert api.get("/gateway-config").json()["maxInputTokens"] is None


def test_every_fault_is_told_at_once(api, assert_refused):
    answer = api.patch("/gateway-config", {"totalTimeout": "x", "maxInputTokens": 0, "total_timeout": "1s"})

    details = assert_refused(answer, 422, "invalid_request", "totalTimeout", "maxInputTokens", "total_timeout")
    assert "totalTimeout" in details["total_timeout"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"'])
def test_a_body_that_is_no_object_is_refused(api, body):
    assert api.patch("/gateway-config", body).status_code in {400, 422}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_never_created_replaced_or_deleted(api, assert_refused, method):
    answer = api.request(method, "/gateway-config", {})

    assert_refused(answer, 405, "method_not_allowed")
    assert "PATCH" in answer.headers["allow"]


def test_each_account_has_its_own(api, other_api):
    api.patch("/gateway-config", {"totalTimeout": "5s"})

    assert other_api.get("/gateway-config").json()["totalTimeout"] == "120s"


def test_a_stale_etag_is_refused_even_for_the_first_write(api, assert_refused):
    first = api.get("/gateway-config").headers["etag"]

    changed = api.patch("/gateway-config", {"maxInputTokens": 5}, if_match=first)
    stale = api.patch("/gateway-config", {"maxInputTokens": 6}, if_match=first)

    assert changed.status_code == 200
    assert changed.headers["etag"] != first
    assert_refused(stale, 412, "precondition_failed")
    assert api.get("/gateway-config").json()["maxInputTokens"] == 5


def test_the_same_request_again_under_one_idempotency_key_has_one_effect(api):
    first = api.patch("/gateway-config", {"maxInputTokens": 5}, idempotency_key="once")
    api.patch("/gateway-config", {"maxInputTokens": 6})

    again = api.patch("/gateway-config", {"maxInputTokens": 5}, idempotency_key="once")

    assert again.json() == first.json()
    assert api.get("/gateway-config").json()["maxInputTokens"] == 6


def test_a_write_records_the_settings_to_be_published(api, account):
    api.patch("/gateway-config", {"totalTimeout": "5s"})

    assert Change.objects.filter(account=account, document="settings").count() == 1


def test_the_data_plane_sees_what_was_written_and_nothing_of_the_defaults(api, account):
    assert snapshot_documents.documents(account, ["settings"]) == {"settings": None}
    assert list(snapshot_documents.all_documents([account])) == []

    api.patch("/gateway-config", {"totalTimeout": "5s", "maxOutputTokens": 9})

    wanted = SettingsDocument(total_timeout="5s", max_output_tokens=9)
    assert snapshot_documents.documents(account, ["settings"]) == {"settings": wanted}
    assert list(snapshot_documents.all_documents([account])) == [(account, "settings", wanted)]


def test_credits_are_among_the_settings_of_who_has_them(account, other_account, ledger):
    ledger.add(account)

    assert snapshot_documents.build(account) == SettingsDocument(has_credits=True)
    assert snapshot_documents.build(other_account) is None


def test_a_change_of_credits_is_recorded_without_a_row_of_settings(account, ledger):
    ledger.add(account)

    services.record_credits_changed(account.id)

    assert Change.objects.filter(account=account, document="settings").exists()
    assert not GatewayConfiguration.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_of_credits_belongs_into_the_ledgers_transaction(account):
    with pytest.raises(NotInTransaction):
        services.record_credits_changed(account.id)


@pytest.mark.django_db(transaction=True)
def test_two_first_writers_both_succeed(account, principal):
    start = threading.Barrier(2)

    def write(**changes):
        try:
            start.wait()
            services.update_gateway_configuration(account=account, by=principal, **changes)
        finally:
            connection.close()

    writers = [
        threading.Thread(target=write, kwargs={"max_input_tokens": 5}),
        threading.Thread(target=write, kwargs={"max_output_tokens": 6}),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    found = GatewayConfiguration.of(account)
    assert (found.max_input_tokens, found.max_output_tokens) == (5, 6)


@pytest.mark.parametrize("text", ["30s", "2m", "1m30s", "1.5h", "+5s", ".5s", "1.s", "100ms", "5µs", "0h1ns"])
def test_the_openapi_document_and_the_form_agree_on_durations(api, text):
    assert re.fullmatch(DURATION_PATTERN, text)
    assert api.patch("/gateway-config", {"totalTimeout": text}).json()["totalTimeout"] == text


@pytest.mark.parametrize("text", ["", "30", "0s", "-5s", "5 s", "5S", "1d", "s", ".s", "+", "1s ", "++1s"])
def test_what_the_openapi_document_refuses_the_form_refuses(api, text):
    assert not re.fullmatch(DURATION_PATTERN, text)
    assert api.patch("/gateway-config", {"totalTimeout": text}).status_code == 422
