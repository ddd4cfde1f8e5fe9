"""Holds: dashboard.pages.access_keys

The access keys section: a token once, a key found among many, and every change by the API's own rules.
"""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_keys import services
from access_keys.models import AccessKey
from accounts.models import Membership
from configurations.services import create_configuration
from dashboard.kit import configuration_choices
from dashboard.wording import app_snippets
from gateway_core import ids, tokens
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.events import an_event
from tests.rows import make_provider
from tests.workers import ROOT
from usage.ingest import write

pytestmark = pytest.mark.django_db

LIST = "/dashboard/access-keys"


@pytest.fixture
def client(account, sign_in):
    return sign_in(account)


@pytest.fixture
def configuration(account, principal):
    access = {"models": {"allow": ["openai:gpt-4o-mini"]}}
    return create_configuration(account=account, by=principal, name="chat", access=access)


@pytest.fixture
def make_key(account, principal):
    def make(name=None, **fields):
        columns = {column: fields.pop(column) for column in ("last_used", "created_at") if column in fields}
        issued = services.create_access_key(account=account, by=principal, name=name, **fields)
        AccessKey.objects.filter(id=issued.access_key.id).update(**columns)
        return issued

    return make


def token_in(answer):
    return answer.content.decode().split("data-token>")[1].split("<")[0]


def names(answer):
    return [key.name for key in answer.context["listing"].items]


def test_a_token_is_shown_in_one_answer_and_kept_nowhere(account, client, configuration, settings):
    settings.DATA_PLANE_URL = "https://models.example.com"
    once = client.get(f"{LIST}/new").context["once"]
    form = {"name": "shop", "accessKeyConfigurationId": configuration.text_id, "once": once}

    answer = client.post(f"{LIST}/new", form)

    made = account.accesskey_set.get()
    token = token_in(answer)
    shown = answer.content.decode()
    assert (made.name, made.configuration) == ("shop", configuration)
    assert tokens.digest(token) == made.digest
    assert "no-store" in answer["Cache-Control"]
    assert f"curl https://models.example.com/v1/chat/completions \\\n  -H &quot;Authorization: Bearer {token}" in shown
    assert "openai:gpt-4o-mini" in shown, "a model that the key may reach"

    again = client.post(f"{LIST}/new", form, follow=True)
    assert again.redirect_chain == [(f"{LIST}/{made.text_id}", 302)]
    assert "made its access key already" in again.content.decode()
    assert account.accesskey_set.count() == 1, "the same form, sent again by a reload"
    for page in (again, client.get(LIST), client.get(f"{LIST}/{made.text_id}")):
        assert token not in page.content.decode()
        assert made.digest not in page.content.decode()
    assert token not in str(dict(client.session))


def test_a_fault_stands_at_its_field_with_the_apis_own_words(account, api, client):
    wrong = {
        "name": "x" * 256,
        "accessKeyConfigurationId": ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id()),
        "expiresAt": "soon",
    }

    answers = [client.post(f"{LIST}/new", wrong), client.post(f"{LIST}/new", wrong | {"name": "", "expiresAt": ""})]

    for answer, body in zip(
        answers, (wrong, {"accessKeyConfigurationId": wrong["accessKeyConfigurationId"]}), strict=True
    ):
        assert answer.status_code == 422
        for path, text in api.post("access-keys", body).json()["details"].items():
            assert answer.context["form"][path].faults == [text]
    assert account.accesskey_set.count() == 0


def test_an_edit_moves_a_key_and_takes_it_out_again(client, configuration, make_key):
    access_key = make_key("shop").access_key
    page = f"{LIST}/{access_key.text_id}"

    for chosen, expected in ((configuration.text_id, configuration), ("", None)):
        form = client.get(page).context["form"]
        fields = {bound.field.name: bound.value for bound in form} | {"accessKeyConfigurationId": chosen}
        assert client.post(page, fields | {"etag": form.etag})["Location"] == page
        access_key.refresh_from_db()
        assert (access_key.configuration, access_key.name) == (expected, "shop")

    stale = client.post(page, fields | {"etag": form.etag, "name": "mine"})
    assert stale.status_code == 412
    access_key.refresh_from_db()
    assert access_key.name == "shop"


def test_a_key_is_disabled_and_enabled(client, make_key):
    access_key = make_key("shop").access_key
    page = f"{LIST}/{access_key.text_id}"

    for sent, said in (({"disabled": "on"}, b"is disabled"), ({}, b"is enabled")):
        answer = client.post(f"{page}/state", sent, follow=True)
        access_key.refresh_from_db()
        assert access_key.disabled is bool(sent)
        assert said in answer.content


def test_a_key_dies_by_its_typed_name_and_its_last_use_is_told(account, client, make_key):
    access_key = make_key("shop", last_used=timezone.now() - timedelta(hours=3)).access_key
    page = f"{LIST}/{access_key.text_id}/delete"
    assert b"It was last used 3 hours ago." in client.get(page).content

    assert client.post(page, {"phrase": "Shop"}).status_code == 422
    assert account.accesskey_set.exists()
    assert client.post(page, {"phrase": "shop"})["Location"] == LIST
    assert not account.accesskey_set.exists()


def test_a_key_is_found_by_name_id_mask_and_even_by_its_token(client, make_key):
    for number in range(3):
        make_key(f"Service {number}")
    wanted = make_key("Checkout")
    text_id, redacted = wanted.access_key.text_id, wanted.access_key.key_redacted

    for sought in (
        "check",
        "CHECKOUT",
        text_id,
        redacted,
        redacted[:9],
        redacted[:10],
        wanted.token,
        wanted.token[:15],
    ):
        assert names(client.get(LIST, {"q": sought})) == ["Checkout"], sought
    assert len(names(client.get(LIST, {"q": text_id[:8]}))) == 4, "IDs of one moment begin alike"
    for nothing in ("aigk_u", "aigk_8", "aigk_" + "z" * 40, "gwk_***", "gwk_" + "0" * 40, "nobody", "%", "\x00x"):
        answer = client.get(LIST, {"q": nothing})
        assert (answer.status_code, names(answer)) == (200, []), nothing
        assert b"No access key matches" in answer.content


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"configuration": "none"}, {"plain", "off", "expired", "old"}),
        ({"state": "active"}, {"plain", "under", "old"}),
        ({"state": "disabled"}, {"off"}),
        ({"state": "expired"}, {"expired"}),
        ({"unused": "never"}, {"plain", "off", "expired"}),
        ({"unused": "30"}, {"old"}),
        ({"unused": "90"}, set()),
        ({"state": "active", "configuration": "none", "q": "l"}, {"plain", "old"}),
        ({"state": "no such"}, {"plain", "under", "off", "expired", "old"}),
    ],
)
def test_a_list_is_narrowed(client, configuration, make_key, query, expected):
    now = timezone.now()
    make_key("plain")
    make_key("under", configuration_id=configuration.id, last_used=now)
    make_key("off", disabled=True)
    make_key("expired", expires_at=now - timedelta(seconds=1))
    make_key("old", created_at=now - timedelta(days=60), last_used=now - timedelta(days=31))

    assert set(names(client.get(LIST, query))) == expected


def test_the_keys_of_a_configuration_are_listed_by_its_id_alone(
    account, principal, other_account, other_principal, client, configuration, make_key, monkeypatch
):
    make_key("under", configuration_id=configuration.id)
    make_key("plain")
    monkeypatch.setattr(configuration_choices, "MOST", 1)
    create_configuration(account=account, by=principal, name="newer")
    strangers = create_configuration(account=other_account, by=other_principal, name="strangers")

    answer = client.get(LIST, {"configuration": configuration.text_id})
    assert names(answer) == ["under"]
    assert b"newer" in answer.content, "offered"
    answer = client.get(LIST, {"configuration": strangers.text_id})
    assert b"strangers" not in answer.content


def test_a_keys_page_says_what_it_may_reach_and_answers_a_question(client, configuration, make_key):
    under, free = make_key("under", configuration_id=configuration.id), make_key("free", disabled=True)

    asked = client.get(f"{LIST}/{under.access_key.text_id}", {"model": "gpt-4o"})
    assert b"Only openai:gpt-4o-mini." in asked.content
    assert not asked.context["plan"].is_allowed
    shown = client.get(f"{LIST}/{free.access_key.text_id}").content
    assert b"Everything: every provider and every model." in shown
    assert b"every request with it is refused until it is enabled again" in shown


def test_a_key_shows_its_own_recent_requests(account, other_account, client, make_key):
    access_key = make_key("shop").access_key
    mine = {"access_key": access_key.text_id, "request_id": "r"}
    write(
        [
            an_event(account, requested_model="my-model", **mine),
            an_event(account, requested_model="failed-over", is_final=False, **mine),
            an_event(account, requested_model="of-another-key"),
            an_event(other_account, requested_model="of-a-stranger", **mine),
        ]
    )

    shown = client.get(f"{LIST}/{access_key.text_id}").content.decode()

    assert [model in shown for model in ("my-model", "failed-over", "of-another-key", "of-a-stranger")] == [
        True,
        False,
        False,
        False,
    ]


def test_the_snippets_are_those_of_the_documentation_where_the_tests_run_them(make_key, settings):
    documented = (ROOT / "docs" / "clients.md").read_text()
    settings.DATA_PLANE_URL = "https://gateway.example"

    shown = app_snippets.snippets_of(make_key().access_key, "gwk_your_access_key")

    assert len(shown) == 5
    for one in shown:
        assert one.text.replace("anthropic:claude", "claude") + "\n```" in documented, one.label


@pytest.mark.parametrize(
    ("content", "stored", "model"),
    [
        (None, None, "gpt-4o"),
        (None, "anthropic", "claude-sonnet-4-5"),
        ({"access": {"models": {"allow": ["groq:openai/gpt-oss-120b"]}}}, None, "groq:openai/gpt-oss-120b"),
        ({"access": {"providers": {"allow": ["anthropic"]}}}, "openai", "claude-sonnet-4-5"),
        ({"access": {"models": {"allow": []}}}, None, "gpt-4o"),
        ({"access": {"models": {"allow": ["openai:it's$(x)"]}}}, None, "gpt-4o"),
        ({"router": {"rules": [{"model": "openai:o3", "steps": [{"type": "ngrok"}]}]}}, None, "openai:o3"),
    ],
)
def test_a_snippet_asks_for_a_model_that_the_key_should_reach(account, principal, make_key, content, stored, model):
    if stored:
        value = PlainValue("sk-0123456789abcdefghijklmnop")
        create_provider_key(account=account, by=principal, provider_id=stored, name="k", value=value)
    under = create_configuration(account=account, by=principal, name="c", **content) if content else None

    access_key = make_key(configuration_id=under.id if under else None).access_key

    assert app_snippets.example_model(access_key) == model


def test_a_list_costs_the_same_queries_however_long_it_is(
    account, principal, client, configuration, make_key, django_assert_num_queries
):
    make_key(configuration_id=configuration.id)
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(20):
        under = create_configuration(account=account, by=principal, name=f"c{number}")
        make_key(configuration_id=under.id)

    with django_assert_num_queries(len(few)):
        client.get(LIST)
    assert len(few) <= 8


def test_a_viewer_is_shown_nothing_to_press(account, principal, sign_in, make_key):
    access_key = make_key("shop").access_key
    value = PlainValue("sk-0123456789abcdefghijklmnop")
    key = create_provider_key(account=account, by=principal, provider_id="openai", name="k", value=value)
    provider = make_provider(account)
    viewer = sign_in(account, "victor", Membership.Role.VIEWER)

    for path in (
        LIST,
        f"{LIST}/{access_key.text_id}",
        "/dashboard/providers/keys",
        f"/dashboard/providers/keys/{key.text_id}",
        "/dashboard/providers/built-in/openai",
        "/dashboard/providers/custom",
        f"/dashboard/providers/custom/{provider.text_id}",
    ):
        shown = viewer.get(path).content.decode().split("<main", 1)[1]
        assert "button-danger" not in shown, path
        assert 'method="post" novalidate' not in shown or "<fieldset disabled>" in shown, path
        assert ">Save<" not in shown, path
        assert "/new" not in shown, path
