"""Holds: dashboard.pages.configurations

The Configurations section on the server's side: whose it is, what it costs, and that its rules are the API's.
"""

import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_keys.services import create_access_key, update_access_key
from accounts import services as accounts
from accounts.models import Membership
from configurations.models import Configuration
from configurations.services import create_configuration, update_configuration
from dashboard.kit.picker_choices import MOST
from dashboard.pages.configuration_reads import SHOWN_USERS
from dashboard.pages.configurations import PAGES
from dashboard.wording.json_places import fault_place
from provider_keys.models import ProviderKey
from provider_keys.services import create_provider_key, delete_provider_key
from provider_keys.values import PlainValue
from rest.preconditions import etag_of

pytestmark = pytest.mark.django_db

LIST = "/dashboard/configurations"
VALUE = "sk-dashboard-0123456789abcdefghijklmnop"


def signed_in(account, username, role=Membership.Role.OWNER, **options):
    user = accounts.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client(**options)
    client.force_login(user)
    return client


def post(client, path, body, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, json.dumps(body), content_type="application/json", headers=sent)


@pytest.fixture
def alice_client(account):
    return signed_in(account, "alice")


@pytest.fixture
def key(account, principal):
    return create_provider_key(
        account=account, by=principal, provider_id="openai", name="alices-key", value=PlainValue(VALUE)
    )


@pytest.fixture
def configuration(account, principal, key):
    return create_configuration(
        account=account,
        by=principal,
        name="chat",
        access={"providers": {"allow": ["openai", "groq"]}},
        router={"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": key.text_id}]}]}]},
    )


def paths_of(configuration):
    filled = {"<str:text_id>": configuration.text_id, "<int:number>": "1", "<str:kind>": "models"}
    paths = [f"/dashboard/{page.path}" for page in PAGES]
    for place, value in filled.items():
        paths = [path.replace(place, value) for path in paths]
    return paths


def test_what_the_editor_sends_is_what_the_api_would_store(account, alice_client, api, key):
    body = {
        "name": "by form",
        "description": "for people",
        "access": {"models": {"allow": ["openai:gpt-4o"]}},
        "router": {
            "rules": [
                {
                    "provider": "openai",
                    "steps": [
                        {"type": "user", "keys": [{"id": key.text_id}, {"name": "new", "value": "sk-new-" + "x" * 30}]},
                        {"type": "ngrok"},
                    ],
                }
            ]
        },
    }

    answer = post(alice_client, f"{LIST}/new", body)

    made = Configuration.objects.get(name="by form")
    assert answer.json() == {"location": f"{LIST}/{made.text_id}"}
    shown = api.get(f"access-key-configurations/{made.text_id}").json()
    assert shown["access"] == body["access"]
    assert [one["name"] for one in shown["router"]["rules"][0]["steps"][0]["keys"]] == ["alices-key", "new"]
    assert made.created_by.startswith("usr_")


def test_a_model_that_was_nearly_named_is_accepted_and_the_next_page_warns_of_it(alice_client):
    body = {"name": "chat", "access": {"models": {"allow": ["openai:o3", "openai:gpt-4q"]}}}

    location = post(alice_client, f"{LIST}/new", body).json()["location"]

    page = alice_client.get(location)
    assert b"Allowed model 2: The catalog does not have this model. Did you mean openai:gpt-4" in page.content
    assert b"message-warning" in page.content


def test_a_form_that_is_sent_again_makes_no_second_configuration(alice_client):
    first, again = (post(alice_client, f"{LIST}/new", {"name": "chat"}, form_once="stamp") for _ in range(2))
    another = post(alice_client, f"{LIST}/new", {"name": "chat"}, form_once="another stamp")

    assert first.json() == again.json() != another.json()
    assert Configuration.objects.count() == 2


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "access": {"models": {"allow": ["gpt-4o"]}}, "router": {"rules": [{"provider": "groq"}]}},
        {"name": "x", "access": {"providers": {"allow": ["opnai"]}}, "surprise": 1},
        {"name": "x", "router": {"rules": [{"provider": "groq", "steps": [{"type": "ngrok"}]}]}},
        [],
    ],
)
def test_a_refusal_is_the_apis_own_with_the_places_in_words(alice_client, api, body):
    by_form, by_api = post(alice_client, f"{LIST}/new", body), api.post("access-key-configurations", body)

    assert by_form.status_code == by_api.status_code == 422
    refusal = by_api.json()
    assert by_form.json() == {**refusal, "places": {path: fault_place(path) for path in refusal["details"]}}
    assert Configuration.objects.count() == 0


@pytest.mark.parametrize("body", [b"{", b'{"name": "a", "name": "b"}', b'{"name": NaN}', b"\xff", b"[" * 5000])
def test_rubbish_is_refused_and_no_failure(alice_client, configuration, body):
    for path in (f"{LIST}/new", f"{LIST}/explain", f"{LIST}/{configuration.text_id}/edit"):
        answer = alice_client.post(path, body, content_type="application/json")

        assert (answer.status_code, answer.json()["errorCode"]) == (400, "json_invalid")


def test_an_edit_of_what_has_changed_meanwhile_writes_nothing_and_says_who_it_was(alice_client, configuration, api):
    path = f"{LIST}/{configuration.text_id}"
    seen = etag_of(configuration)
    api.patch(f"access-key-configurations/{configuration.text_id}", {"description": "theirs"})

    refused = post(alice_client, f"{path}/edit", {"description": "mine"}, if_match=seen)
    now = alice_client.get(f"{path}/now", {"since": "1"}).json()

    assert refused.status_code == 412
    assert (now["by"], now["changes"]) == ("API key first", ["description: none → ‘theirs’"])
    for nonsense in ("", "x", "9" * 5000, "-1"):
        assert alice_client.get(f"{path}/now", {"since": nonsense}).json()["changes"] == []
    assert post(alice_client, f"{path}/edit", {"description": "mine"}, if_match=now["etag"]).status_code == 200
    configuration.refresh_from_db()
    assert configuration.description == "mine"


def test_a_review_tells_losses_and_users_and_writes_nothing(account, principal, alice_client, configuration):
    for number in range(SHOWN_USERS + 1):
        create_access_key(account=account, by=principal, name=f"app {number}", configuration_id=configuration.id)
    path = f"{LIST}/{configuration.text_id}/review"

    narrower = post(alice_client, path, {"access": {"providers": {"allow": ["openai"]}}}).json()
    wider = post(alice_client, path, {"access": None, "name": "chat"}).json()

    assert narrower["losses"] == ["Groq is no longer allowed."]
    assert len(narrower["users"]) == SHOWN_USERS
    assert narrower["users"][0] == f"app {SHOWN_USERS}, never used"
    assert narrower["hasMoreUsers"] is True
    assert wider == {"losses": [], "users": [], "hasMoreUsers": False}
    refused = post(alice_client, path, {"access": {"providers": {"allow": ["opnai"]}}})
    assert list(refused.json()["details"]) == ["access.providers.allow[0]"]
    configuration.refresh_from_db()
    assert configuration.access == {"providers": {"allow": ["openai", "groq"]}}


def test_a_new_keys_value_is_in_no_answer(account, alice_client):
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "new", "value": VALUE}]}]}]
    bad = {"name": "", "router": {"rules": rules}}

    refused = post(alice_client, f"{LIST}/new", bad)
    explained = post(alice_client, f"{LIST}/explain", {"model": "gpt-4o", "router": {"rules": rules}})
    post(alice_client, f"{LIST}/new", {**bad, "name": "good"})
    text_id = Configuration.objects.get().text_id
    pages = [alice_client.get(path) for path in (LIST, f"{LIST}/{text_id}", f"{LIST}/{text_id}/edit")]

    assert "sk-dashboa***mnop" in explained.content.decode()
    for answer in (refused, explained, *pages):
        assert VALUE not in answer.content.decode()
    assert ProviderKey.objects.count() == 1


def test_a_stored_configuration_is_tested_by_a_link(alice_client, configuration):
    path = f"{LIST}/{configuration.text_id}"

    allowed = alice_client.get(path, {"model": "openai:gpt-4o"}).context["plan"]
    refused = alice_client.get(path, {"model": "anthropic:claude-x", "surface": "messages"}).context["plan"]
    asked_badly = alice_client.get(path, {"model": "x" * 600, "surface": "telepathy"})

    assert allowed.is_allowed
    assert [(one.provider, one.mask, one.decided) for one in allowed.attempts] == [
        ("OpenAI", "sk-dashboa***mnop", "rule 1, step 1")
    ]
    assert allowed.attempts[0].removed == "reasoning_effort"
    assert allowed.reasons == ("openai:gpt-4o is allowed by provider entry 1.",)
    assert not refused.is_allowed
    assert refused.change == "Allow the provider anthropic."
    assert len(asked_badly.context["question_faults"]) == 2


def test_a_configuration_in_use_is_not_deleted_and_its_users_are_told(account, principal, alice_client, configuration):
    issued = create_access_key(account=account, by=principal, name="support-bot", configuration_id=configuration.id)
    path = f"{LIST}/{configuration.text_id}/delete"

    assert b"Used by support-bot, never used." in alice_client.get(path).content
    refused = alice_client.post(path, {"phrase": "chat"})
    assert refused.status_code == 409
    assert b"unlink it first" in refused.content

    update_access_key(access_key=issued.access_key, by=principal, configuration_id=None)
    assert alice_client.post(path, {"phrase": "chat"})["Location"] == LIST
    assert not Configuration.objects.exists()


def test_a_copy_starts_from_the_original_and_is_its_own(alice_client, configuration):
    data = alice_client.get(f"{LIST}/new", {"from": configuration.text_id}).context["data"]

    assert (data["id"], data["etag"], data["configuration"]["name"]) == (None, None, "Copy of chat")
    assert data["configuration"]["access"] == configuration.access
    assert alice_client.get(f"{LIST}/new", {"from": "aigac_nonsense"}).status_code == 404


def test_nobody_else_finds_anything_of_the_account(other_account, configuration, key):
    charlie = signed_in(other_account, "charlie")

    for path in paths_of(configuration):
        if configuration.text_id in path:
            assert charlie.get(path).status_code in {404, 405}
            assert post(charlie, path, {"name": "mine", "phrase": "chat"}).status_code in {404, 405}
    assert charlie.get(f"{LIST}/new", {"from": configuration.text_id}).status_code == 404
    found = charlie.get(f"{LIST}/choices/provider-keys", {"provider": "openai"})
    assert found.json() == {"items": []}
    assert "chat" not in charlie.get(LIST).content.decode().split("<main")[1]
    configuration.refresh_from_db()
    assert configuration.name == "chat"


def test_a_viewer_reads_everything_and_writes_nothing(account, configuration):
    victor = signed_in(account, "victor", Membership.Role.VIEWER)

    for path in (LIST, f"{LIST}/{configuration.text_id}"):
        shown = victor.get(path).content.decode()
        assert 'method="post"' not in shown.split("<main")[1]
        assert "/edit" not in shown
    for path in paths_of(configuration):
        assert post(victor, path, {"name": "mine", "phrase": "chat"}).status_code in {403, 405}
        assert victor.post(path, {"phrase": "chat"}).status_code in {403, 405}
    assert victor.get(f"{LIST}/new").status_code == 403
    configuration.refresh_from_db()
    assert configuration.name == "chat"


def test_the_editors_script_needs_the_csrf_token_like_any_form(account):
    client = signed_in(account, "alice", enforce_csrf_checks=True)

    assert post(client, f"{LIST}/new", {"name": "by another site"}).status_code == 403
    assert Configuration.objects.count() == 0


def test_pickers_offer_what_fits_best_first(account, alice_client, api, key):
    own = {
        "providerId": "my-ollama",
        "name": "Lab",
        "baseUrl": "https://lab.example.com",
        "models": [{"modelId": "qwen3"}],
    }
    assert api.post("providers", own).status_code == 201

    def offered(kind, **query):
        items = alice_client.get(f"{LIST}/choices/{kind}", query).json()["items"]
        assert len(items) <= MOST
        return [item["value"] for item in items]

    assert offered("providers", q="groq") == ["groq"]
    assert offered("providers", q="LAB")[0] == "my-ollama"
    assert "my-ollama:qwen3" in offered("models", q="qwen3 ollama")
    assert offered("models", q="gpt-4o")[0] == "openai:gpt-4o"
    assert len(offered("models")) == MOST
    assert offered("models", q="no such model at all") == []
    assert offered("subjects", q="OpenAI")[0] == "openai"
    assert ":" not in "".join(offered("subjects"))
    assert ":" in offered("subjects", q="gpt-4o")[0]
    assert offered("provider-keys", provider="openai", q="alices") == [key.text_id]
    assert offered("provider-keys", provider="openai", q="sk-dashb") == [key.text_id]
    assert offered("provider-keys", provider="groq") == []
    assert offered("provider-keys", provider="\x00", q="\x00" * 300) == []
    assert alice_client.get(f"{LIST}/choices/nonsense").status_code == 404


def test_no_page_costs_more_queries_with_more_rows(account, principal, alice_client, configuration):
    def counted():
        costs = {}
        for path in paths_of(configuration):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                alice_client.get(path, {"model": "gpt-4o"})
            costs[path] = len(queries)
        return costs

    before = counted()
    for number in range(12):
        other = create_configuration(account=account, by=principal, name=f"other {number}")
        create_access_key(account=account, by=principal, configuration_id=other.id)
        create_access_key(account=account, by=principal, configuration_id=configuration.id)
        update_configuration(configuration=configuration, by=principal, description=str(number))
    after = counted()

    assert after == before
    assert max(after.values()) <= 15, after


def test_the_list_says_what_each_allows_and_how_many_use_it(account, principal, alice_client, configuration):
    create_configuration(account=account, by=principal, name="frozen", access={"models": {"allow": []}})
    for _ in range(2):
        create_access_key(account=account, by=principal, configuration_id=configuration.id)

    rows = {row.configuration.name: row for row in alice_client.get(LIST).context["rows"]}
    found = [row.configuration.name for row in alice_client.get(LIST, {"q": "FRO"}).context["rows"]]

    assert rows["frozen"].allows.is_nothing
    assert rows["chat"].allows.sentence == "Every model of OpenAI and Groq."
    assert [(rows[name].rule_count, rows[name].configuration.user_count) for name in ("chat", "frozen")] == [
        (1, 2),
        (0, 0),
    ]
    assert rows["chat"].changed_by == "API key first"
    assert found == ["frozen"]


def test_a_revision_is_restored_after_showing_what_would_change(account, principal, alice_client, configuration):
    create_access_key(account=account, by=principal, name="support-bot", configuration_id=configuration.id)
    update_configuration(configuration=configuration, by=principal, access=None, description="wider")
    page = f"{LIST}/{configuration.text_id}/revisions/1/restore"

    asked = alice_client.get(page)
    assert asked.context["changes"] == [
        "description: ‘wider’ → none",
        "providers: everything allowed → only openai, groq",
    ]
    assert asked.context["losses"] == [
        "Of the providers only OpenAI and Groq may still be reached; until now every provider could."
    ]
    assert b"support-bot" in asked.content
    answer = alice_client.post(page, {"etag": asked.context["etag"]})

    configuration.refresh_from_db()
    assert answer["Location"] == f"{LIST}/{configuration.text_id}"
    assert configuration.access == {"providers": {"allow": ["openai", "groq"]}}
    shown = alice_client.get(answer["Location"]).context["revisions"].shown
    assert [(one.number, one.by) for one in shown] == [(3, "alice"), (2, "API key first"), (1, "API key first")]
    assert b"There is nothing to restore." in alice_client.get(page).content


def test_a_restore_is_refused_over_a_change_that_was_not_seen_and_with_what_is_gone(
    principal, alice_client, configuration, key
):
    page = f"{LIST}/{configuration.text_id}/revisions/1/restore"
    update_configuration(configuration=configuration, by=principal, router=None)
    seen = alice_client.get(page).context["etag"]
    update_configuration(configuration=configuration, by=principal, description="theirs")

    overtaken = alice_client.post(page, {"etag": seen})
    delete_provider_key(provider_key=key, by=principal)
    gone = alice_client.post(page, {"etag": overtaken.context["etag"]})

    assert (overtaken.status_code, gone.status_code) == (412, 422)
    assert "There is no provider key with this ID." in gone.content.decode()
    configuration.refresh_from_db()
    assert (configuration.router, configuration.description) == (None, "theirs")
    assert alice_client.get(page.replace("/1/", "/99/")).status_code == 404
    assert alice_client.post(page.replace("/1/", "/99999999999999999999/")).status_code == 404


def test_older_revisions_are_a_page_further(principal, alice_client, configuration):
    for number in range(30):
        update_configuration(configuration=configuration, by=principal, description=str(number))
    page = f"{LIST}/{configuration.text_id}/revisions"

    first = alice_client.get(page).context["revisions"]
    second = alice_client.get(page, {"before": first.shown[-1].number}).context["revisions"]

    assert [one.number for one in first.shown + second.shown] == list(range(31, 0, -1))
    assert first.shown[-1].changes == ["description: ‘4’ → ‘5’"]
    assert (second.shown[-1].is_first, second.has_more) == (True, False)
    assert alice_client.get(page, {"before": "nonsense"}).context["revisions"].shown == first.shown
