"""Who may open the pages of access keys, provider keys and providers: no stranger, and no viewer to write."""

import pytest
from django.urls import reverse

from access_keys.models import AccessKey
from access_keys.services import create_access_key
from accounts.models import Membership
from dashboard.pages import access_keys, provider_keys, providers
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from providers.models import Provider
from tests.rows import make_provider

pytestmark = pytest.mark.django_db

PAGES = [*access_keys.PAGES, *provider_keys.PAGES, *providers.PAGES]
WRITES = {
    "name": "mine",
    "value": "sk-0123456789abcdefghijklmnop",
    "providerId": "openai",
    "baseUrl": "https://mine.example.com",
    "disabled": "on",
    "action": "disable",
}


@pytest.fixture
def things(account, principal):
    """One thing of Alice's account of each kind, by what the pages' names begin or end with."""
    value = PlainValue("sk-alices-0123456789abcdefghij")
    provider = make_provider(account)
    return {
        "access-key": create_access_key(account=account, by=principal, name="alices").access_key,
        "provider-key": create_provider_key(
            account=account, by=principal, provider_id="openai", name="alices", value=value
        ),
        "provider": provider,
    }


def address_of(page, things):
    if "<str:provider_id>" in page.path:
        return reverse(f"dashboard:{page.name}", args=["openai"])
    if "<" not in page.path:
        return reverse(f"dashboard:{page.name}")
    kind = next(kind for kind in things if kind in page.name)
    return reverse(f"dashboard:{page.name}", args=[things[kind].text_id])


def state():
    keys = ("name", "updated_at")
    return [sorted(model.objects.values_list("id", *keys)) for model in (AccessKey, ProviderKey, Provider)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_stranger_sees_and_changes_nothing_of_the_account(other_account, sign_in, things, page):
    client = sign_in(other_account, "charlie")
    address, before = address_of(page, things), state()
    phrases = {"phrase": "alices", "id": [things["access-key"].text_id]}

    read = client.get(address)
    if "<str:text_id>" in page.path:
        assert client.post(address, WRITES | phrases).status_code == 404
        assert page.name == "access-key-state" or read.status_code == 404
        assert state() == before
    assert b"alices" not in read.content
    assert b"my-ollama" not in read.content


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_viewer_reads_and_is_refused_every_write(account, sign_in, things, page):
    client = sign_in(account, "victor", Membership.Role.VIEWER)
    address, before = address_of(page, things), state()
    phrases = {"phrase": "alices", "id": [things["access-key"].text_id]}

    assert client.post(address, WRITES | phrases).status_code == 403
    assert state() == before
    read = client.get(address)
    assert read.status_code in ({403} if page.least_to_read != Membership.Role.VIEWER else {200, 302})
    assert b'<button type="submit" class="button button-primary"' not in read.content
    assert b"button-danger" not in read.content
