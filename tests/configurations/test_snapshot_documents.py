"""Holds: configurations.snapshot_documents

What writes publish: which documents they touch, and what the data plane makes of them.
"""

from typing import Any

import pytest

from configurations import snapshot_documents as configuration_documents
from configurations.models import Configuration
from configurations.services import create_configuration
from gateway_core import snapshot
from gateway_core.account_snapshot import AccountSnapshot
from gateway_core.catalog import Catalog, Surface
from gateway_core.plans import Plan
from gateway_core.policy import resolve
from gateway_core.redaction import mask
from gateway_core.sealing import Binding, Keyring
from gateway_core.snapshot import ConfigurationDocument, ProviderDocument, ProviderKeyDocument, Rule, Scope, Step
from provider_keys import snapshot_documents as provider_key_documents
from providers import snapshot_documents as provider_documents
from providers.catalog import build_models_document
from snapshots.models import Change
from tests.rows import make_provider

URL = "/access-key-configurations"


def published(account):
    """Every document of the account, once through the bytes that Redis holds."""
    rooms = (configuration_documents, provider_key_documents, provider_documents)
    documents = {}
    for room in rooms:
        for _, name, document in room.all_documents([account]):
            documents[name] = snapshot.read(name, snapshot.encode(document))
            assert documents[name] == document
    view = AccountSnapshot(account.text_id)
    view.apply(1, documents)
    return view


def taken_changes(account):
    """The documents that have been recorded since the last look."""
    names = sorted(Change.objects.filter(account=account).values_list("document", flat=True))
    Change.objects.all().delete()
    return names


def test_each_write_records_what_it_touched_and_nothing_else(api, account, known):
    taken_changes(account)
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "a", "value": "abcdefgh"}]}]}]

    configuration = api.post(URL, {"name": "n", "router": {"rules": rules}}).json()
    inline = configuration["router"]["rules"][0]["steps"][0]["keys"][0]["id"]
    of_configuration, of_key = f"configuration:{configuration['id']}", f"providerKey:{inline}"
    assert taken_changes(account) == [of_configuration, of_key]

    api.post(f"/provider-keys/{inline}/rotate", {"name": "b", "value": "bcdefghi"})
    assert taken_changes(account) == [of_key]

    api.patch(f"/provider-keys/{inline}", {"name": "c"})
    assert taken_changes(account) == [of_key]

    api.patch(configuration["uri"], {"router": None})
    assert taken_changes(account) == [of_configuration]

    api.delete(f"/provider-keys/{inline}")
    assert taken_changes(account) == [of_key]

    api.delete(configuration["uri"])
    assert taken_changes(account) == [of_configuration]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/provider-keys", {"providerId": "nobody", "name": "a", "value": "abcdefgh"}),
        ("DELETE", "/provider-keys/{openai}", None),
        ("POST", URL, {"name": "n", "router": {"rules": [{"provider": "nobody", "steps": [{"type": "ngrok"}]}]}}),
    ],
)
def test_a_refused_write_records_nothing(api, account, principal, known, method, path, body):
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": known.openai}]}]}]
    create_configuration(account=account, by=principal, name="n", router={"rules": rules})
    taken_changes(account)

    answer = api.request(method, path.format(openai=known.openai), body)

    assert answer.status_code in {409, 422}
    assert taken_changes(account) == []


def test_a_configuration_s_document_names_providers_by_provider_id_alone(api, account, known):
    access = {
        "providers": {"allow": [known.custom, "openai"]},
        "models": {"allow": [f"{known.custom}:a", f"{known.custom}/b", "openai:gpt-4o"]},
    }
    steps = [{"type": "user", "keys": [{"id": known.custom_key}], "keySelectionStrategy": "ordered"}]
    rules = [{"provider": known.custom, "steps": steps}, {"model": f"{known.custom}:c", "steps": steps}]
    api.post(URL, {"name": "n", "access": access, "router": {"rules": rules}})

    document = configuration_documents.build(Configuration.objects.with_named().get())

    step = Step("user", (known.custom_key,))
    assert document == ConfigurationDocument(
        scope=Scope(("my-ollama", "openai"), (("my-ollama", "a"), ("", "my-ollama/b"), ("openai", "gpt-4o"))),
        rules=(Rule("my-ollama", (step,)), Rule("my-ollama", (step,), "c")),
    )
    assert b"aigp_" not in snapshot.encode(document)


def test_missing_and_empty_stay_different_on_the_way(account, principal):
    unrestricted: list[Any] = [None, {}, {"providers": {}, "models": {}}]
    for access in unrestricted:
        created = create_configuration(account=account, by=principal, name="n", access=access)
        assert configuration_documents.build(created) == ConfigurationDocument()
    nothing: Any = {"providers": {"allow": []}, "models": {"allow": []}}
    created = create_configuration(account=account, by=principal, name="n", access=nothing)
    assert configuration_documents.build(created).scope == Scope(providers=(), models=())


def test_documents_are_asked_for_by_name_and_are_none_where_the_row_is_gone(api, account, other_account, known):
    kept, gone = (api.post(URL, {"name": name}).json()["id"] for name in ("kept", "gone"))
    api.delete(f"{URL}/{gone}")
    asked = [f"configuration:{kept}", f"configuration:{gone}"]

    assert configuration_documents.documents(account, asked) == {asked[0]: ConfigurationDocument(), asked[1]: None}
    assert configuration_documents.documents(other_account, asked) == dict.fromkeys(asked)
    keys = [f"providerKey:{known.openai}", "providerKey:aigpk_01h455vb4pex5vsknk084sn02q"]
    found = provider_key_documents.documents(account, keys)
    assert (type(found[keys[0]]), found[keys[1]]) == (ProviderKeyDocument, None)
    assert provider_key_documents.documents(other_account, keys) == dict.fromkeys(keys)
    slugs = ["provider:my-ollama", "provider:nobody"]
    custom = provider_documents.documents(account, slugs)
    assert (type(custom[slugs[0]]), custom[slugs[1]]) == (ProviderDocument, None)
    assert provider_documents.documents(other_account, slugs) == dict.fromkeys(slugs)


def test_a_worker_opens_every_published_provider_key_by_what_the_snapshot_says_of_it(
    account, known, sealing_private_key
):
    keyring = Keyring.parse(sealing_private_key)

    view = published(account)

    assert len(view.provider_keys) == 4
    for key, document in view.provider_keys.items():
        value = keyring.open(document.sealed, Binding(view.account, document.provider, key))
        assert value == f"key-of-{document.provider}"
        assert document.mask == mask(value)


def test_the_policy_follows_a_router_as_it_was_written(api, account, known):
    steps = [{"type": "user", "keys": [{"id": known.other_openai}, {"id": known.openai}]}]
    rules = [{"model": "openai:GPT-4o", "steps": steps}]
    body = {"name": "n", "access": {"models": {"allow": ["openai:gpt-4o"]}}, "router": {"rules": rules}}
    configuration = api.post(URL, body).json()["id"]

    plan = resolve(
        published(account),
        Catalog(build_models_document()),
        configuration=configuration,
        requested=["gpt-4o"],
        surface=Surface.CHAT_COMPLETIONS,
    )

    assert isinstance(plan, Plan)
    assert [attempt.provider_key for attempt in plan.attempts] == [known.other_openai, known.openai]


@pytest.mark.parametrize("provider", ["openai", "my-ollama"])
def test_the_list_of_all_documents_is_the_account_s_own(account, other_account, known, provider):
    make_provider(other_account, "theirs")

    view = published(account)

    assert set(view.providers) == {"my-ollama"}
    assert view.keys_of[provider]
    assert published(other_account).provider_keys == {}
