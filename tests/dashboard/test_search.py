"""Holds: dashboard.pages.search

The command search: the account's own things, cheaply.
"""

import pytest
from django.test import Client

from access_keys.services import create_access_key
from accounts import services
from configurations.services import create_configuration
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled(account, principal):
    value = PlainValue("sk-search-0123456789abcdefghijklmnop")
    return {
        "access-keys": create_access_key(account=account, by=principal, name="checkout app").access_key,
        "configurations": create_configuration(account=account, by=principal, name="checkout rules"),
        "providers/keys": create_provider_key(
            account=account, by=principal, provider_id="openai", name="checkout team", value=value
        ),
    }


def search_of(account, username, asked):
    user = services.create_user(username=username, email="", password="x", account=account, role="viewer")
    client = Client()
    client.force_login(user)
    return client.post("/dashboard/search", {"q": asked}).json()["results"]


def test_a_name_finds_all_kinds_of_things(account, filled):
    found = search_of(account, "alice", "CHECKOUT")

    assert {one["url"] for one in found} == {f"/dashboard/{path}/{item.text_id}" for path, item in filled.items()}


def test_an_id_or_a_mask_finds_the_one_thing(account, filled):
    for number, asked in enumerate(
        [filled["access-keys"].text_id, filled["access-keys"].key_redacted, filled["access-keys"].key_redacted[:9]]
    ):
        found = search_of(account, f"alice{number}", asked)
        assert [one["title"] for one in found] == ["checkout app"], asked


def test_a_page_is_found_by_its_title_and_by_its_section(account):
    assert ("API keys", "/dashboard/settings/api-keys") in {
        (one["title"], one["url"]) for one in search_of(account, "alice", "settings api")
    }


@pytest.mark.parametrize("asked", ["", "  ", "*", "%", "\x00", "x" * 5000])
def test_odd_questions_get_an_answer(account, asked):
    assert isinstance(search_of(account, "alice", asked), list)


def test_a_stranger_finds_nothing_of_the_account(other_account, filled):
    for number, asked in enumerate(["checkout", *(one.text_id for one in filled.values())]):
        assert search_of(other_account, f"charlie{number}", asked) == []


def test_a_search_costs_six_queries(account, filled, django_assert_num_queries):
    user = services.create_user(username="alice", email="", password="x", account=account, role="viewer")
    client = Client()
    client.force_login(user)

    with django_assert_num_queries(6):
        client.post("/dashboard/search", {"q": "checkout"})


def test_a_text_in_the_address_is_refused(account, sign_in):
    assert sign_in(account).get("/dashboard/search", {"q": "whole-key-of-no-known-form"}).status_code == 405


def test_a_whole_key_of_no_known_form_finds_its_provider_key(account, principal):
    value = "0123456789abcdefABCDEF0123456789"
    create_provider_key(account=account, by=principal, provider_id="openai", name="odd", value=PlainValue(value))

    assert [one["title"] for one in search_of(account, "alice", value)] == ["odd"]
