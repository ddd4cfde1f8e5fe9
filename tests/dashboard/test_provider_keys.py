"""Holds: dashboard.pages.provider_keys

The provider keys section: a value goes in and never comes out again, whatever happens to the form that held it.
"""

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from configurations.services import create_configuration
from dashboard.wording.key_health import health_of
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.rows import make_provider

pytestmark = pytest.mark.django_db

LIST = "/dashboard/providers/keys"
VALUE = "sk-first-0123456789abcdefghijklmnop"
NEXT = "sk-second-zyxwvutsrqponmlkjihgfed"


@pytest.fixture
def client(account, sign_in):
    return sign_in(account)


@pytest.fixture
def make_key(account, principal):
    def make(name="team", provider="openai", value=VALUE):
        plain = PlainValue(value)
        return create_provider_key(account=account, by=principal, provider_id=provider, name=name, value=plain)

    return make


def test_a_value_is_never_told_again_in_no_page_fault_session_or_log(account, client, caplog):
    caplog.set_level(logging.DEBUG)
    made = {"providerId": "openai", "name": "team", "value": VALUE}
    answers = [
        client.post(f"{LIST}/new", made | {"name": ""}),
        client.post(f"{LIST}/new", made | {"value": f"{VALUE} with space"}),
        client.post(f"{LIST}/new", made | {"providerId": VALUE}),
        client.post(f"{LIST}/new", made, follow=True),
    ]
    stored = account.providerkey_set.get()
    page = f"{LIST}/{stored.text_id}"
    answers += [
        client.post(f"{page}/rotate", {"name": "", "value": NEXT}),
        client.post(f"{page}/rotate", {"name": "team", "value": NEXT, "etag": '"stale"'}),
        client.post(f"{page}/rotate", {"name": "team", "value": NEXT}, follow=True),
        *(client.get(path) for path in (LIST, page, f"{page}/rotate", f"{page}/delete", "/dashboard/audit")),
    ]

    assert [one.status_code for one in answers] == [422] * 3 + [200, 422, 412] + [200] * 6
    told = "".join([*(one.content.decode() for one in answers), str(dict(client.session)), caplog.text])
    for value in (VALUE, NEXT):
        assert value not in told
        assert value[12:24] not in told
    assert b"Enter it again." in answers[0].content
    assert 'type="password"' in answers[0].content.decode()
    assert answers[0].context["form"]["name"].faults == ["This must not be empty."]


def test_a_rotation_keeps_the_id_and_says_what_took_whose_place(account, client, make_key):
    key = make_key()
    page = f"{LIST}/{key.text_id}"
    form = client.get(f"{page}/rotate").context["form"]
    ProviderKey.objects.filter(id=key.id).update(last_refusal_at=timezone.now(), last_refusal_status=401)

    answer = client.post(f"{page}/rotate", {"name": "renamed", "value": NEXT, "etag": form.etag}, follow=True)

    rotated = account.providerkey_set.get()
    assert (rotated.id, rotated.name, rotated.sealed == key.sealed) == (key.id, "renamed", False)
    assert f"{key.key_redacted} → {rotated.key_redacted}" in answer.content.decode()
    assert health_of(rotated).text == "Not tried yet"


def test_what_is_said_of_a_key_is_edited_and_its_value_cannot_be(account, client, make_key):
    key = make_key()
    etag = client.get(f"{LIST}/{key.text_id}").context["form"].etag

    client.post(f"{LIST}/{key.text_id}", {"name": "renamed", "description": "d", "value": NEXT, "etag": etag})

    changed = account.providerkey_set.get()
    assert (changed.name, changed.description, changed.key_redacted) == ("renamed", "d", key.key_redacted)


def test_a_key_in_use_tells_where_and_cannot_be_deleted(account, principal, client, make_key):
    key, other = make_key(), make_key("other", "anthropic")
    steps = [{"type": "ngrok"}, {"type": "user", "keys": [{"id": key.text_id}]}]
    rules = [
        {"provider": "anthropic", "steps": [{"type": "user", "keys": [{"id": other.text_id}]}]},
        {"provider": "openai", "steps": steps},
        {"model": "openai:gpt-4o", "steps": steps[1:]},
    ]
    create_configuration(account=account, by=principal, name="chat", router={"rules": rules})
    page = f"{LIST}/{key.text_id}"

    assert b"rule 2, step 2; rule 3, step 1" in client.get(page).content
    assert b"The configuration chat names it (rule 2, step 2; rule 3, step 1)." in client.get(f"{page}/delete").content
    refused = client.post(f"{page}/delete", {"phrase": "team"})
    assert refused.status_code == 409
    assert b"remove it from the configurations first" in refused.content
    assert account.providerkey_set.filter(id=key.id).exists()


def test_an_unused_key_dies_by_its_typed_name(account, client, make_key):
    key = make_key()
    page = f"{LIST}/{key.text_id}/delete"

    assert client.post(page, {"phrase": "Team"}).status_code == 422
    assert client.post(page, {"phrase": "team"})["Location"] == LIST
    assert not account.providerkey_set.exists()


def test_a_list_is_by_provider_and_narrowed(account, client, make_key):
    make_provider(account, "my-ollama", name="Our Ollama")
    first, _ = make_key("first"), make_key("claude", "anthropic")
    make_key("second"), make_key("own", "my-ollama")

    def found(**query):
        groups = client.get(LIST, query).context["groups"]
        return [(provider, [row.provider_key.name for row in rows]) for provider, rows in groups]

    assert found() == [("OpenAI", ["second", "first"]), ("Anthropic", ["claude"]), ("Our Ollama", ["own"])]
    assert found(provider="my-ollama") == [("Our Ollama", ["own"])]
    for sought in ("FIRST", first.text_id):
        assert found(q=sought) == [("OpenAI", ["first"])]
    assert len(found(q="sk-first-0")) == 3
    assert found(q="aigpk_u") == []


@pytest.mark.parametrize(
    ("success", "refusal", "status", "text", "kind"),
    [
        (None, None, None, "Not tried yet", "neutral"),
        (1, None, None, "Works", "good"),
        (1, 2, 401, "Works", "good"),
        (2, 1, 401, "401 key refused", "bad"),
        (None, 1, 429, "429 rate limited", "warning"),
        (2, 1, 503, "503 upstream trouble", "warning"),
        (2, 1, 0, "No answer", "warning"),
    ],
)
def test_the_newest_that_traffic_told_is_a_keys_health(success, refusal, status, text, kind):
    ago = {minutes: timezone.now() - timedelta(minutes=minutes) for minutes in (1, 2)}

    key = ProviderKey(last_success_at=ago.get(success), last_refusal_at=ago.get(refusal), last_refusal_status=status)

    assert health_of(key) == (text, kind)
