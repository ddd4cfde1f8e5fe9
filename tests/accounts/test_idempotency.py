"""Holds: accounts.idempotency

Idempotency-Key: one effect, one answer, and nothing in the row that opens by itself.
"""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from access_keys.models import AccessKey
from accounts.models import Account, ApiKey, IdempotencyRecord
from accounts.tasks import forget_expired_answers
from tests.fixtures import Api, open_account

SECRET = "sk-marked-0123456789-abcdefghijklmnop"


def test_a_post_sent_again_makes_one_object_and_gets_the_same_answer(api):
    first = api.post("access-keys", {"name": "app"}, idempotency_key="one")
    again = api.post("access-keys", {"name": "app"}, idempotency_key="one")

    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.json()["token"]
    assert (first["Location"], first["ETag"]) == (again["Location"], again["ETag"])
    assert AccessKey.objects.count() == 1


def test_a_patch_sent_again_is_answered_as_the_first_time_and_changes_nothing_more(api):
    uri = api.post("access-keys", {"name": "a"}).json()["uri"]
    first = api.patch(uri, {"name": "b"}, idempotency_key="one")
    api.patch(uri, {"name": "c"})

    again = api.patch(uri, {"name": "b"}, idempotency_key="one")

    assert first.json() == again.json()
    assert api.get(uri).json()["name"] == "c"


def test_the_order_of_fields_and_white_space_are_no_other_request(api):
    first = api.post("access-keys", b'{"name": "a", "metadata": "m"}', idempotency_key="one")
    again = api.post("access-keys", b'{"metadata":"m","name":"a"}', idempotency_key="one")

    assert again.json() == first.json()


def test_a_quoted_key_is_the_key_that_it_quotes(api):
    first = api.post("access-keys", {}, idempotency_key='"one"')

    assert api.post("access-keys", {}, idempotency_key="one").json() == first.json()


def test_another_body_under_the_same_key_is_refused(api, assert_refused):
    api.post("access-keys", {"name": "a"}, idempotency_key="one")

    refused = api.post("access-keys", {"name": "b"}, idempotency_key="one")

    assert_refused(refused, 422, "idempotency_key_reused")
    assert AccessKey.objects.count() == 1


def test_the_same_key_elsewhere_is_another_key(api, bob, other_api):
    answers = [
        api.post("access-keys", {}, idempotency_key="one"),
        api.post("api-keys", {}, idempotency_key="one"),
        bob.post("access-keys", {}, idempotency_key="one"),
        other_api.post("access-keys", {}, idempotency_key="one"),
    ]

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 4


def test_a_refused_request_leaves_no_record_and_may_be_corrected(api):
    assert api.post("access-keys", {"name": 1}, idempotency_key="one").status_code == 422
    assert api.post("access-keys", b"{", idempotency_key="one").status_code == 400
    assert IdempotencyRecord.objects.count() == 0

    assert api.post("access-keys", {"name": "a"}, idempotency_key="one").status_code == 201


def test_a_refused_write_under_a_key_leaves_nothing_behind(api, assert_refused):
    refused = api.post(
        "access-keys",
        {"accessKeyConfigurationId": "aigac_01h455vb4pex5vsknk084sn02q"},
        idempotency_key="one",
    )

    assert_refused(refused, 422, "configuration_unknown", "accessKeyConfigurationId")
    assert AccessKey.objects.count() == IdempotencyRecord.objects.count() == 0


@pytest.mark.parametrize("key", ["", " ", '""', "x" * 256, "ünïcode", "a\tb"])
def test_a_key_that_is_none_is_refused(api, assert_refused, key):
    assert_refused(api.post("access-keys", {}, idempotency_key=key), 400, "header_invalid", "Idempotency-Key")


def test_after_24_hours_the_key_is_new_again(api):
    first = api.post("access-keys", {}, idempotency_key="one").json()
    record = IdempotencyRecord.objects.get()
    assert timedelta(hours=23, minutes=59) < record.expires_at - timezone.now() <= timedelta(hours=24)

    IdempotencyRecord.objects.update(expires_at=timezone.now())
    second = api.post("access-keys", {"name": "other"}, idempotency_key="one").json()

    assert first["id"] != second["id"]
    assert IdempotencyRecord.objects.count() == 1


def test_expired_records_are_forgotten_and_others_kept(api, monkeypatch):
    monkeypatch.setattr("accounts.tasks.BATCH", 2)
    for number in range(6):
        api.post("access-keys", {}, idempotency_key=str(number))
    kept = IdempotencyRecord.objects.order_by("pk").last()
    IdempotencyRecord.objects.exclude(pk=kept.pk).update(expires_at=timezone.now())

    assert forget_expired_answers() == 5
    assert list(IdempotencyRecord.objects.all()) == [kept]


def test_a_revoked_api_key_takes_its_records_along(api):
    body = api.post("api-keys", {}).json()
    Api(body["token"]).post("access-keys", {}, idempotency_key="one")

    assert api.delete(body["uri"]).status_code == 204
    assert IdempotencyRecord.objects.count() == 0


def test_a_disabled_api_key_gets_no_recorded_answer(api):
    body = api.post("api-keys", {}).json()
    doomed = Api(body["token"])
    doomed.post("access-keys", {}, idempotency_key="one")
    api.patch(body["uri"], {"disabled": True})

    assert doomed.post("access-keys", {}, idempotency_key="one").status_code == 401


def test_the_row_holds_neither_key_nor_token_nor_body_in_clear(api):
    body = {"providerId": "openai", "name": "a", "value": SECRET}
    token = api.post("access-keys", {"name": "readable"}, idempotency_key="guessable").json()["token"]
    assert api.post("provider-keys", body, idempotency_key="guessable").status_code == 201

    rows = b"\n".join(
        repr((bytes(row.answer), row.digest, row.fingerprint, row.expires_at)).encode() + bytes(row.answer)
        for row in IdempotencyRecord.objects.all()
    )

    for clear in (token, token[:12], SECRET, SECRET[:12], "guessable", "readable", "openai"):
        assert clear.encode() not in rows


def test_two_records_of_the_same_request_have_nothing_in_common(api, bob):
    for client in (api, bob):
        client.post("access-keys", {"name": "a"}, idempotency_key="one")

    first, second = IdempotencyRecord.objects.all()
    assert first.digest != second.digest
    assert first.fingerprint != second.fingerprint


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_writes_and_the_others_are_told_to_come_back():
    _, _, api = open_account("Alice's")
    together = threading.Barrier(8)
    answers = []

    def post():
        try:
            together.wait()
            answers.append(Api(api.token).post("access-keys", {"name": "a"}, idempotency_key="one"))
        finally:
            connection.close()

    clients = [threading.Thread(target=post) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    refused = [answer.json()["errorCode"] for answer in answers if answer.status_code != 201]
    assert len(answers) == 8
    assert len(made) == AccessKey.objects.count() == 1
    assert set(refused) <= {"idempotency_key_in_use"}


@pytest.mark.django_db(transaction=True)
def test_a_write_that_is_not_committed_leaves_no_record(monkeypatch):
    """As when the process dies: the record is part of the write's own transaction."""
    _, _, api = open_account("Alice's")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rest.idempotency.Key.seal", die)
    with pytest.raises(KeyboardInterrupt):
        api.post("access-keys", {}, idempotency_key="one")
    monkeypatch.undo()

    assert AccessKey.objects.count() == IdempotencyRecord.objects.count() == 0
    assert api.post("access-keys", {}, idempotency_key="one").status_code == 201
    assert Account.objects.count() == ApiKey.objects.count() == 1
