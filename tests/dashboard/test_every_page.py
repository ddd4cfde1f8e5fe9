"""Holds: dashboard.pages

Every page of the URL map, as nobody, viewer, editor and stranger: a new page is walked from its first day.

Alice owns the account, Bob is a member of it with a lower role, Charlie owns another account.
"""

import re

import pytest
from django.apps import apps
from django.test import Client
from django.urls import get_resolver

from access_keys.services import create_access_key
from accounts import members, services
from accounts.models import Account, Membership
from configurations.services import create_configuration
from dashboard.pages import PAGES
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.rows import make_event, make_provider

pytestmark = pytest.mark.django_db

Role = Membership.Role
VALUE = "sk-walk-0123456789abcdefghijklmnopqrstuv"
# Where a POST needs no editor: what it does changes nothing of the account's.
OPEN_TO_VIEWERS = {"search", "choose-account", "create-account"}
BY_PATH = {page.path: page for page in PAGES}
PATHS = sorted(BY_PATH)
# What each kind of object in a path is, by how the path begins; the longest beginning counts.
KINDS = {
    "access-keys/": "access_key",
    "configurations/": "configuration",
    "providers/keys/": "provider_key",
    "providers/custom/": "provider",
    "settings/api-keys/": "api_key",
    "settings/members/": "member",
    "settings/members/invitations/": "invitation",
    "activity/": "event",
}
# Other parts of paths that name nothing of an account.
PARTS = {"<str:provider_id>": "openai", "<int:number>": "1", "<str:kind>": "models"}
BODY = {
    "name": "mine",
    "role": "owner",
    "phrase": "",
    "value": VALUE,
    "provider_id": "openai",
    "model": "openai:gpt-4o",
}


@pytest.fixture
def things(account, principal, other_account):
    """One of everything that Alice's account may own."""
    issued = create_access_key(account=account, by=principal, name="alices-app")
    api_key = services.create_api_key(account=account, by=principal, name="alices-pipeline")
    event = make_event(account, access_key=issued.access_key.text_id, model="alices-model")
    invited = members.invite(account=account, name="alices-friend", role="viewer", by=principal)
    alice = services.create_user(username="alices-user", email="", password="x" * 20, account=account, role="owner")
    return {
        "access_key": issued.access_key,
        "configuration": create_configuration(account=account, by=principal, name="alices-rules"),
        "provider_key": create_provider_key(
            account=account, by=principal, provider_id="openai", name="alices-team", value=PlainValue(VALUE)
        ),
        "provider": make_provider(account, "alices-models"),
        "api_key": api_key.api_key,
        "member": alice.memberships.get(),
        "invitation": invited.invitation,
        "event": event,
        "tokens": [issued.token, api_key.token, invited.token],
    }


@pytest.fixture
def enter(account, other_account):
    """`enter("viewer")`, `enter("owner", other_account)`: a client that is signed in."""

    def make(role, where=account):
        user = services.create_user(username=f"{role}-{where}", email="", password="x", account=where, role=role)
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return make


def address_of(path, things):
    filled = path
    for part, value in PARTS.items():
        filled = filled.replace(part, value)
    if "<str:text_id>" in filled:
        kind = KINDS[max((lead for lead in KINDS if path.startswith(lead)), key=len)]
        filled = filled.replace("<str:text_id>", things[kind].text_id)
    assert "<" not in filled, f"say above what belongs into {path}"
    return f"/dashboard/{filled}"


def body_of(answer):
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def everything():
    """All rows of all our tables but the sessions, as text."""
    ours = [model for model in apps.get_models() if not model.__module__.startswith(("django.", "axes.", "allauth."))]
    return {model.__name__: sorted(map(str, model._default_manager.values_list())) for model in ours}


def ask(client, method, path, things):
    return getattr(client, method)(address_of(path, things), BODY if method == "post" else {})


def test_the_pages_are_all_that_the_url_map_has():
    routes = [str(one.pattern) for one in get_resolver().url_patterns if str(one.pattern) == "dashboard/"]
    site = get_resolver().url_patterns[-1]
    served = {str(one.pattern) for one in site.url_patterns}

    assert len(routes) == 2, "sign-in and the site"
    assert served == {*BY_PATH, "login", "logout", "^(?P<rest>.*)$"}


def test_who_is_not_signed_in_gets_no_page_and_changes_nothing(things):
    before = everything()

    for path in PATHS:
        for method in ("get", "post"):
            answer = ask(Client(), method, path, things)
            assert answer.status_code == 302, (method, path)
            assert answer["Location"].startswith("/dashboard/login")
    assert everything() == before


def test_a_viewer_changes_nothing_by_any_path(things, enter):
    viewer = enter("viewer")
    before = everything()

    for path in PATHS:
        looked, posted = (ask(viewer, method, path, things) for method in ("get", "post"))
        # 405: there is nothing to POST to; 302: a page of the operator's, or one that only leads on.
        assert looked.status_code in {200, 302, 403, 404, 405}, path
        allowed = {200, 302, 400, 404, 415, 422} if BY_PATH[path].name in OPEN_TO_VIEWERS else {403, 405}
        assert posted.status_code in allowed, (path, posted.status_code)
    assert everything() == before


def test_an_editor_does_not_touch_the_members(things, enter):
    editor = enter("editor")
    before = everything()

    for path in PATHS:
        if path.startswith("settings/members"):
            assert ask(editor, "post", path, things).status_code in {403, 405}, path
    assert everything() == before


def test_a_stranger_finds_nothing_of_the_account_on_any_page(things, enter, other_account):
    charlie = enter("owner", other_account)
    before = {name: rows for name, rows in everything().items() if name not in {"Event", "PendingEvent"}}
    accounts_rows = [row for rows in before.values() for row in rows if "alices" in row]

    for path in PATHS:
        for method in ("get", "post"):
            answer = ask(charlie, method, path, things)
            assert answer.status_code < 500, (method, path)
            assert b"alices-" not in body_of(answer), (method, path)
            if "<str:text_id>" in path:
                # A GET of what only takes a POST leads on, to a page that is 404 itself.
                assert answer.status_code in ({404, 405} if method == "post" else {302, 404, 405}), (method, path)
    after = [row for rows in everything().values() for row in rows if "alices" in row]
    assert sorted(accounts_rows) == sorted(row for row in after if row in accounts_rows)


def test_no_page_holds_a_value_a_token_or_a_digest_and_none_costs_more_than_fifteen_queries(
    things, enter, django_assert_max_num_queries
):
    alice = enter("owner")
    hidden = [
        VALUE,
        *things["tokens"],
        things["access_key"].digest,
        things["api_key"].digest,
        things["invitation"].digest,
        things["provider_key"].fingerprint,
        bytes(things["provider_key"].sealed).hex(),
    ]

    for path in PATHS:
        with django_assert_max_num_queries(15, info=path):
            answer = ask(alice, "get", path, things)
        assert answer.status_code in {200, 302, 404, 405}, path
        text = body_of(answer).decode(errors="replace")
        assert not [one for one in hidden if one in text], path
        assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", text), f"{path}: the policy refuses what is inline"
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text), f"{path}: an inline script"


def test_every_page_has_a_name_and_a_path_of_its_own():
    assert len({page.name for page in PAGES}) == len(PAGES) == len(BY_PATH)
    assert {page.name for page in PAGES if page.least_to_write == Role.VIEWER} <= OPEN_TO_VIEWERS
    assert Account.objects.count() == 0
