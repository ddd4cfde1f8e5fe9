"""Holds: dashboard.pages.access_keys_at_once

Many access keys changed at once: each by itself, none beyond the account, and an account of every one.
"""

import pytest

from access_keys import services
from access_keys.models import AccessKey
from configurations.services import create_configuration, delete_configuration
from dashboard.pages.access_keys_at_once import MOST
from gateway_core import ids

pytestmark = pytest.mark.django_db

LIST = "/dashboard/access-keys"
AT_ONCE = f"{LIST}/at-once"


@pytest.fixture
def client(account, sign_in):
    return sign_in(account)


@pytest.fixture
def keys(account, principal):
    return [services.create_access_key(account=account, by=principal, name=f"k{n}").access_key for n in range(3)]


@pytest.fixture
def strangers_key(other_account, other_principal):
    return services.create_access_key(account=other_account, by=other_principal, name="theirs").access_key


def chosen(keys, action, **more):
    return {"action": action, "id": [key.text_id for key in keys], **more}


def test_keys_are_disabled_and_enabled_and_the_list_is_as_narrowed_as_before(principal, client, keys):
    untouched = keys[2].updated_at
    services.update_access_key(access_key=keys[0], by=principal, disabled=True)
    keys[0].refresh_from_db()
    changed_at = keys[0].updated_at

    answer = client.post(AT_ONCE, chosen(keys[:2], "disable", query="q=k&state=active&state=\r\nx"))

    assert answer["Location"] == f"{LIST}?q=k&state=active&state=%0D%0Ax"
    assert b"2 access keys are disabled." in client.get(LIST).content
    rows = {key.name: (key.disabled, key.updated_at) for key in AccessKey.objects.all()}
    assert [rows[name][0] for name in ("k0", "k1", "k2")] == [True, True, False]
    assert rows["k0"][1] == changed_at, "it was disabled already"
    assert rows["k2"][1] == untouched
    client.post(AT_ONCE, chosen(keys, "enable"))
    assert not AccessKey.objects.filter(disabled=True).exists()


def test_what_cannot_be_changed_is_named_and_the_others_are_changed(principal, client, keys, strangers_key):
    gone = keys[1].text_id
    services.delete_access_key(access_key=keys[1], by=principal)
    sent = {"action": "disable", "id": [keys[0].text_id, gone, strangers_key.text_id, "nonsense\x00", keys[2].text_id]}

    answer = client.post(AT_ONCE, sent)

    assert answer.status_code == 200
    outcomes = [(one.called, bool(one.refusal)) for one in answer.context["outcomes"]]
    assert outcomes == [
        ("k0", False),
        (gone, True),
        (strangers_key.text_id, True),
        ("nonsense\x00", True),
        ("k2", False),
    ]
    assert b"2 access keys are disabled." in answer.content
    assert set(AccessKey.objects.filter(disabled=True).values_list("name", flat=True)) == {"k0", "k2"}


def test_keys_are_put_under_a_configuration_that_is_asked_for(account, principal, client, keys):
    configuration = create_configuration(account=account, by=principal, name="chat")
    asked = client.post(AT_ONCE, chosen(keys, "assign"))
    assert b"Assign a configuration to 3 access keys" in asked.content
    assert not AccessKey.objects.exclude(configuration=None).exists()

    sent = chosen(keys[:2], "assign", confirmed="on", accessKeyConfigurationId=configuration.text_id)
    assert client.post(AT_ONCE, sent)["Location"] == LIST
    assert configuration.access_keys.count() == 2
    client.post(AT_ONCE, sent | {"accessKeyConfigurationId": ""})
    assert configuration.access_keys.count() == 0, "none is an answer too"

    delete_configuration(configuration=configuration, by=principal)
    answer = client.post(AT_ONCE, sent)
    assert [one.refusal for one in answer.context["outcomes"]] == ["The account has no configuration with this ID."] * 2
    assert client.post(AT_ONCE, sent | {"accessKeyConfigurationId": "aigk_x"}).status_code == 422


def test_keys_are_deleted_by_a_typed_phrase_with_their_number(client, keys, strangers_key):
    asked = client.post(AT_ONCE, chosen(keys[:2], "delete"))
    assert b"delete 2 access keys" in asked.content
    assert b"never used" in asked.content
    assert client.post(AT_ONCE, chosen(keys[:2], "delete", phrase="delete 3 access keys")).status_code == 422
    assert AccessKey.objects.count() == 4

    answer = client.post(AT_ONCE, chosen(keys[:2], "delete", phrase=" delete 2 access keys "))

    assert answer["Location"] == LIST
    assert set(AccessKey.objects.values_list("name", flat=True)) == {"k2", "theirs"}
    gone = client.post(AT_ONCE, chosen([strangers_key], "delete", phrase="delete 1 access key"))
    assert [bool(one.refusal) for one in gone.context["outcomes"]] == [True]
    assert AccessKey.objects.filter(id=strangers_key.id).exists()


def test_too_many_none_and_nonsense_change_nothing(client, keys):
    many = [ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id()) for _ in range(MOST)]

    assert client.post(AT_ONCE, {"action": "disable", "id": [*many, keys[0].text_id]}).status_code == 422
    assert client.post(AT_ONCE, chosen(keys, "explode")).status_code == 422
    assert client.post(AT_ONCE, {"action": "delete"})["Location"] == LIST
    assert client.get(AT_ONCE)["Location"] == LIST
    assert not AccessKey.objects.filter(disabled=True).exists()
