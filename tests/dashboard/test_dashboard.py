"""The dashboard: who may enter, what they see, and that nothing there writes or shows a secret."""

import pytest
from django.test import Client

from access_keys.services import create_access_key
from accounts import services as accounts
from accounts.models import Membership
from configurations.services import create_configuration
from dashboard.site import site
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery-staple"
VALUE = "sk-dashboard-0123456789abcdefghijklmnop"
PAGES = [
    "access_keys/accesskey",
    "configurations/configuration",
    "provider_keys/providerkey",
    "providers/provider",
    "accounts/apikey",
]


def sign_in(account, username, role=Membership.Role.OWNER):
    accounts.create_user(
        username=username, email=f"{username}@example.com", password=PASSWORD, account=account, role=role
    )
    client = Client()
    assert client.login(username=username, password=PASSWORD)
    return client


@pytest.fixture
def filled(account, principal):
    """An account with one of everything."""
    key = create_provider_key(
        account=account, by=principal, provider_id="openai", name="alices-main", value=PlainValue(VALUE)
    )
    configuration = create_configuration(account=account, by=principal, name="alices-configuration")
    issued = create_access_key(account=account, by=principal, configuration_id=configuration.id, name="alices-app")
    return key, configuration, issued


def test_who_is_not_signed_in_is_sent_to_the_sign_in_page():
    answer = Client().get("/dashboard/")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/dashboard/login/")
    assert Client().get(answer["Location"]).status_code == 200


def test_a_user_without_an_account_may_not_enter(account):
    client = sign_in(account, "eve")
    Membership.objects.all().delete()

    assert client.get("/dashboard/").status_code == 302


@pytest.mark.parametrize("page", PAGES)
def test_a_member_sees_the_lists_of_the_account(account, filled, page):
    answer = sign_in(account, "alice").get(f"/dashboard/{page}/")

    assert answer.status_code == 200


def test_every_registered_page_is_in_this_test():
    assert {f"{model._meta.app_label}/{model._meta.model_name}" for model in site._registry} == set(PAGES)


def test_a_member_of_another_account_sees_nothing_of_it(account, other_account, filled):
    key, configuration, issued = filled
    charlie = sign_in(other_account, "charlie")

    for page, item in zip(PAGES, (issued.access_key, configuration, key), strict=False):
        listed = charlie.get(f"/dashboard/{page}/").content.decode()
        shown = charlie.get(f"/dashboard/{page}/{item.pk}/change/")

        assert "alices-" not in listed
        assert shown.status_code in {302, 404}
        assert b"alices-" not in shown.content


@pytest.mark.parametrize("role", Membership.Role)
def test_nobody_writes_here_whatever_the_role(account, filled, role):
    client = sign_in(account, "alice", role)
    key, *_ = filled

    assert client.get("/dashboard/provider_keys/providerkey/add/").status_code == 403
    assert client.post(f"/dashboard/provider_keys/providerkey/{key.pk}/change/", {"name": "mine"}).status_code == 403
    assert client.post(f"/dashboard/provider_keys/providerkey/{key.pk}/delete/", {"post": "yes"}).status_code == 403
    key.refresh_from_db()
    assert key.name == "alices-main"


def test_no_page_holds_a_value_a_token_a_digest_or_a_fingerprint(account, filled):
    key, configuration, issued = filled
    client = sign_in(account, "alice")
    hidden = [VALUE, issued.token, issued.access_key.digest, key.fingerprint, bytes(key.sealed).hex()]

    for page, item in zip(PAGES, (issued.access_key, configuration, key), strict=False):
        for path in (
            f"/dashboard/{page}/",
            f"/dashboard/{page}/{item.pk}/change/",
            f"/dashboard/{page}/{item.pk}/history/",
        ):
            text = client.get(path).content.decode()
            assert not [one for one in hidden if one in text], path
    assert "sk-dashboa***mnop" in client.get(f"/dashboard/provider_keys/providerkey/{key.pk}/change/").content.decode()
