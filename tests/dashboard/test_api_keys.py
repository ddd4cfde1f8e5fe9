"""Holds: dashboard.pages.api_keys

Settings → API keys, the page that the others are made after.
"""

import pytest
from django.test import Client

from accounts import services
from accounts.models import Membership, User
from accounts.principals import Principal
from dashboard.kit.lists import PAGE_SIZE

pytestmark = pytest.mark.django_db

LIST = "/dashboard/settings/api-keys"


@pytest.fixture
def alice_client(account):
    return signed_in(account, "alice")


def signed_in(account, username, role=Membership.Role.OWNER):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def api_key(account, principal):
    return services.create_api_key(account=account, by=principal, name="ci", description="deploys").api_key


def test_a_token_is_shown_once_and_opens_the_api(account, alice_client, anonymous):
    answer = alice_client.post(f"{LIST}/new", {"name": "ci", "expiresAt": "2099-01-31T12:00"})

    made = account.apikey_set.get(name="ci")
    token = answer.content.decode().split("data-token>")[1].split("<")[0]
    assert anonymous.get("access-keys", authorization=f"Bearer {token}").status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert (made.expires_at.isoformat(), made.created_by[:4]) == ("2099-01-31T12:00:00+00:00", "usr_")
    for path in (LIST, f"{LIST}/{made.text_id}"):
        shown = alice_client.get(path).content.decode()
        assert token not in shown
        assert made.digest not in shown
        assert made.key_redacted in shown


def test_a_form_that_is_sent_again_makes_no_second_key(account, alice_client):
    form = {"name": "ci", "once": alice_client.get(f"{LIST}/new").context["once"]}
    alice_client.post(f"{LIST}/new", form)

    assert alice_client.post(f"{LIST}/new", form)["Location"] == f"{LIST}/{account.apikey_set.get(name='ci').text_id}"
    alice_client.post(f"{LIST}/new", form | {"once": alice_client.get(f"{LIST}/new").context["once"]})
    assert account.apikey_set.filter(name="ci").count() == 2


def test_a_fault_stands_at_its_field_with_the_apis_own_words(account, alice_client, api):
    answer = alice_client.post(f"{LIST}/new", {"name": "x" * 256, "expiresAt": "tomorrow"})

    told = api.post("api-keys", {"name": "x" * 256, "expiresAt": "tomorrow"}).json()["details"]
    shown = answer.content.decode()
    assert answer.status_code == 422
    assert set(told) == {"name", "expiresAt"}
    for path, text in told.items():
        assert f'id="field-{path}-fault">{text}</p>' in shown
    assert "x" * 256 in shown, "what was typed is still there"
    assert account.apikey_set.count() == 1


def test_an_edit_writes_only_what_is_different(alice_client, api_key):
    page = f"{LIST}/{api_key.text_id}"
    before = api_key.updated_at
    etag = alice_client.get(page).context["form"].etag

    alice_client.post(page, {"name": "ci", "description": "deploys", "etag": etag})
    api_key.refresh_from_db()
    assert api_key.updated_at == before

    alice_client.post(page, {"name": "", "description": "deploys\r\non Fridays", "disabled": "on", "etag": etag})
    api_key.refresh_from_db()
    assert (api_key.name, api_key.description, api_key.disabled) == (None, "deploys\non Fridays", True)


def test_who_edits_what_has_changed_meanwhile_is_told(alice_client, api_key, principal):
    page = f"{LIST}/{api_key.text_id}"
    etag = alice_client.get(page).context["form"].etag
    services.update_api_key(api_key=api_key, by=principal, description="changed")

    answer = alice_client.post(page, {"name": "mine", "etag": etag})

    assert answer.status_code == 412
    assert b"has changed since" in answer.content
    api_key.refresh_from_db()
    assert api_key.name == "ci"


def test_a_key_dies_only_by_its_typed_name(account, alice_client, api_key):
    page = f"{LIST}/{api_key.text_id}/delete"
    assert b"It has never been used." in alice_client.get(page).content

    assert alice_client.post(page, {"phrase": "CI"}).status_code == 422
    assert account.apikey_set.filter(id=api_key.id).exists()
    assert alice_client.post(page, {"phrase": " ci "})["Location"] == LIST
    assert not account.apikey_set.filter(id=api_key.id).exists()
    assert b"The API key is deleted." in alice_client.get(LIST).content


@pytest.mark.parametrize("page", ["", "/delete"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_finds_no_key_of_the_account(other_account, api_key, page, method):
    client = signed_in(other_account, "charlie")

    answer = getattr(client, method)(f"{LIST}/{api_key.text_id}{page}", {"phrase": "ci", "name": "mine"})

    assert answer.status_code == 404
    api_key.refresh_from_db()
    assert api_key.name == "ci"


def test_a_list_is_paged_by_key_in_both_directions(account, principal, alice_client):
    for number in range(PAGE_SIZE + 5):
        services.create_api_key(account=account, by=principal, name=f"key-{number:03}")

    first = alice_client.get(LIST, {"q": "key-"})
    second = alice_client.get(first.context["listing"].older)
    back = alice_client.get(second.context["listing"].newer)

    names = [[key.name for key in answer.context["listing"].items] for answer in (first, second, back)]
    assert names[0] == names[2] == [f"key-{number:03}" for number in range(PAGE_SIZE + 4, 4, -1)]
    assert names[1] == [f"key-{number:03}" for number in range(4, -1, -1)]
    assert second.context["listing"].older == ""
    assert alice_client.get(LIST, {"before": "nonsense\x00"}).status_code == 200


def test_a_list_is_narrowed_by_state(account, principal, alice_client, api_key):
    services.create_api_key(account=account, by=principal, name="off", disabled=True)

    found = {
        state: {key.name for key in alice_client.get(LIST, {"state": state}).context["listing"].items}
        for state in ("active", "disabled", "expired", "nonsense")
    }

    assert found["disabled"] == {"off"}
    assert found["active"] == {"first", "ci"}
    assert found["expired"] == set()
    assert found["nonsense"] == {"first", "ci", "off"}


def test_a_page_of_the_list_costs_few_queries(account, principal, alice_client, django_assert_max_num_queries):
    for number in range(30):
        services.create_api_key(account=account, by=principal, name=f"key-{number}")

    with django_assert_max_num_queries(5):
        alice_client.get(LIST)


def test_a_page_tells_who_made_a_thing_by_name_as_long_as_they_are_there(alice_client, account, principal, api_key):
    page = f"{LIST}/{api_key.text_id}"
    services.update_api_key(api_key=api_key, by=Principal.of(User.objects.get(username="alice")), description="mine")
    shown = alice_client.get(page)
    assert (shown.context["created_by"], shown.context["changed_by"]) == ("API key first", "alice")

    account.apikey_set.filter(name="first").delete()

    assert f"by {principal.id}" in alice_client.get(page).content.decode()
