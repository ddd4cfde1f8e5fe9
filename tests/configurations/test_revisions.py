"""Holds: configurations.revisions

Revisions: what each write keeps, what a restore does, and how two of them are told apart.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps

from accounts.models import Account
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import set_limits
from audit.models import Event
from configurations import tasks
from configurations.models import Configuration, Revision
from configurations.revisions import State, changes_between
from configurations.services import (
    ConfigurationInvalid,
    create_configuration,
    delete_configuration,
    restore_revision,
    update_configuration,
)
from provider_keys.services import delete_provider_key, update_provider_key
from rest.errors import NotFound, PreconditionFailed
from rest.preconditions import IfMatch, etag_of
from tests.fixtures import Api

FIRST = "aigpk_01m82rdqfxey2stg0m07gqjjg1"
SECOND = "aigpk_01m82rdqfxey2stg0m07gqjjg2"
THIRD = "aigpk_01m82rdqfxey2stg0m07gqjjg3"
OLLAMA = "aigp_01m82rdqfxey2stg0m07gqjjg4"
NAMES = {FIRST: "team key", SECOND: "backup", OLLAMA: "my-ollama"}

MANAGED = {"type": "ngrok"}


def user(*keys: str) -> dict[str, Any]:
    return {"type": "user", "keys": [{"id": key} for key in keys]}


def rule(subject: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"model" if ":" in subject else "provider": subject, "steps": list(steps)}


def router(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"router": {"rules": list(rules)}}


def providers(*allowed: str) -> dict[str, Any]:
    return {"access": {"providers": {"allow": list(allowed)}}}


def models(*allowed: str) -> dict[str, Any]:
    return {"access": {"models": {"allow": list(allowed)}}}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({}, {}, []),
        ({"name": "a"}, {"name": "b"}, ["name: ‘a’ → ‘b’"]),
        ({"description": None}, {"description": "d"}, ["description: none → ‘d’"]),
        ({}, providers(), ["providers: everything allowed → nothing allowed"]),
        ({}, providers("groq"), ["providers: everything allowed → only groq"]),
        (providers(), {}, ["providers: nothing allowed → everything allowed"]),
        (providers("groq"), providers(), ["providers: only groq → nothing allowed"]),
        ({}, models(*(f"openai:m{number}" for number in range(7))),
         ["models: everything allowed → only openai:m0, openai:m1, openai:m2, openai:m3, openai:m4 and 2 more"]),
        (providers("openai"), providers("openai", "groq"), ["provider groq now allowed"]),
        (models("openai:a", "groq:b"), models("groq:b"), ["model openai:a no longer allowed"]),
        (providers("openai", "groq"), providers("groq", "openai"), ["written otherwise, with the same meaning"]),
        ({"access": {}}, {"access": None}, ["written otherwise, with the same meaning"]),
        (providers("openai"), providers("openai", OLLAMA), ["provider my-ollama now allowed"]),
        (models("my-ollama:x", "b:b"), models(f"{OLLAMA}:x", "b:b"), ["written otherwise, with the same meaning"]),
        ({}, router(rule("openai", MANAGED, user(FIRST, SECOND))),
         ["rule 1 (openai) added: managed inference; keys ‘team key’, ‘backup’"]),
        (router(rule("openai", MANAGED)), {}, ["rule 1 (openai) removed"]),
        (router(rule("openai", MANAGED)), router(rule("openai", MANAGED, user(FIRST))),
         ["rule 1 (openai): step 2 added: keys ‘team key’"]),
        (router(rule("openai", MANAGED, user(FIRST))), router(rule("openai", user(FIRST))),
         ["rule 1 (openai): step 1 removed: managed inference"]),
        (router(rule("openai", user(FIRST))), router(rule("openai", MANAGED)),
         ["rule 1 (openai): step 1: keys ‘team key’ → managed inference"]),
        (router(rule("openai", user(FIRST))), router(rule("openai", user(FIRST, SECOND))),
         ["rule 1 (openai): step 1: key ‘backup’ added"]),
        (router(rule("openai", user(FIRST, SECOND))), router(rule("openai", user(SECOND, FIRST))),
         ["rule 1 (openai): step 1: keys now in the order ‘backup’, ‘team key’"]),
        (router(rule("openai", user(FIRST))), router(rule("openai", user(THIRD))),
         [f"rule 1 (openai): step 1: key {THIRD} added", "rule 1 (openai): step 1: key ‘team key’ removed"]),
        (router(rule("openai", MANAGED), rule("anthropic", MANAGED)), router(rule("anthropic", MANAGED)),
         ["rule 1 (openai) removed"]),
        (router(rule("openai", MANAGED), rule("groq", user(FIRST)), rule("anthropic", MANAGED)),
         router(rule("groq", user(FIRST)), rule("anthropic", MANAGED), rule("openai", MANAGED)),
         ["rule 3 (openai) moved from place 1"]),
        (router(rule("openai", MANAGED)), router(rule("openai", MANAGED), rule("openai:gpt-4o", user(FIRST))),
         ["rule 2 (openai:gpt-4o) added: keys ‘team key’"]),
        (router(rule("my-ollama:x", user(FIRST))), router(rule(f"{OLLAMA}:x", user(FIRST))),
         ["written otherwise, with the same meaning"]),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_words(old: dict[str, Any], new: dict[str, Any], told: list[str]) -> None:
    assert changes_between(State(old, NAMES), State(new, NAMES)) == told


def test_a_key_that_was_renamed_is_the_same_key_under_its_new_name() -> None:
    old = State(router(rule("openai", user(FIRST))), {FIRST: "old name"})
    new = State(router(rule("openai", user(FIRST), MANAGED)), {FIRST: "new name"})

    assert changes_between(old, new) == ["rule 1 (openai): step 2 added: managed inference"]
    assert changes_between(new, old) == ["rule 1 (openai): step 2 removed: managed inference"]


def test_keys_of_one_name_are_told_apart_by_their_ids() -> None:
    names = {FIRST: "key", SECOND: "key"}

    told = changes_between(
        State(router(rule("openai", user(FIRST))), names), State(router(rule("openai", user(SECOND))), names)
    )

    assert told == [
        f"rule 1 (openai): step 1: key ‘key’ ({SECOND}) added",
        f"rule 1 (openai): step 1: key ‘key’ ({FIRST}) removed",
    ]


# ── what is kept ──


@pytest.fixture
def configuration(account: Account, principal: Principal, known: SimpleNamespace) -> Configuration:
    """Two revisions: a rule with one key, then with managed inference before it."""
    made = create_configuration(
        account=account, by=principal, name="chat", **router(rule("openai", user(known.openai)))
    )
    return update_configuration(
        configuration=made, by=principal, **router(rule("openai", MANAGED, user(known.other_openai)))
    )


def numbers(configuration: Configuration) -> list[int]:
    return list(configuration.revisions.order_by("number").values_list("number", flat=True))


def test_each_write_that_changes_something_keeps_a_revision(
    configuration: Configuration, principal: Principal, known: SimpleNamespace
) -> None:
    first, second = configuration.revisions.order_by("number")

    assert (first.number, first.created_by, first.created_by_name) == (1, principal.id, "first")
    assert first.content == {
        "name": "chat",
        "description": None,
        "metadata": None,
        "access": None,
        **router(rule("openai", user(known.openai))),
    }
    assert first.names == {known.openai: "openai"}
    assert changes_between(State.of(first), State.of(second)) == [
        f"rule 1 (openai): step 1: keys ‘openai’ ({known.openai}) → managed inference",
        f"rule 1 (openai): step 2 added: keys ‘openai’ ({known.other_openai})",
    ]
    assert State.now(configuration) == State.of(second)


def test_a_write_that_changes_nothing_keeps_none(configuration: Configuration, principal: Principal) -> None:
    update_configuration(configuration=configuration, by=principal)
    update_configuration(configuration=configuration, by=principal, name="chat")

    assert numbers(configuration) == [1, 2]


def test_a_refused_write_keeps_none(configuration: Configuration, principal: Principal) -> None:
    with pytest.raises(ConfigurationInvalid):
        update_configuration(configuration=configuration, by=principal, **providers("no-such-provider"))

    assert numbers(configuration) == [1, 2]


def test_a_value_that_a_router_brings_along_is_in_no_revision(api: Api) -> None:
    value = "sk-revised-0123456789abcdefghijklmnop"
    key = {"name": "inline", "value": value}

    made = api.post(
        "access-key-configurations",
        {"name": "c", "router": {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [key]}]}]}},
    ).json()

    revision = Revision.objects.get()
    [stored] = made["router"]["rules"][0]["steps"][0]["keys"]
    assert revision.content["router"]["rules"][0]["steps"][0]["keys"] == [{"id": stored["id"]}]
    assert revision.names == {stored["id"]: "inline"}
    assert value not in str(revision.content)


def test_revisions_go_with_their_configuration(configuration: Configuration, principal: Principal) -> None:
    delete_configuration(configuration=configuration, by=principal)

    assert not Revision.objects.exists()


# ── restoring ──


def test_a_restore_is_a_new_revision_with_the_old_content(
    configuration: Configuration, principal: Principal, known: SimpleNamespace
) -> None:
    update_configuration(configuration=configuration, by=principal, name="other", description="d", **providers("groq"))

    restored = restore_revision(configuration=configuration, number=1, by=principal)

    assert (restored.name, restored.description, restored.access) == ("chat", None, None)
    assert [key.provider_key.text_id for key in restored.routed_keys.all()] == [known.openai]
    first, *_, last = configuration.revisions.order_by("number")
    assert (last.number, last.content) == (4, first.content)
    event = Event.objects.order_by("-id").first()
    assert event.action == "configuration.restored"
    assert event.changes["name"] == ["other", "chat"]


def test_restoring_what_is_there_changes_nothing(configuration: Configuration, principal: Principal) -> None:
    events = Event.objects.count()

    restored = restore_revision(configuration=configuration, number=2, by=principal)

    assert restored.updated_at == configuration.updated_at
    assert numbers(configuration) == [1, 2]
    assert Event.objects.count() == events


def test_a_restore_tells_what_is_gone_where_it_stood(
    configuration: Configuration, account: Account, principal: Principal, known: SimpleNamespace
) -> None:
    gone = account.providerkey_set.order_by("id").first()
    assert gone is not None
    assert gone.text_id == known.openai
    delete_provider_key(provider_key=gone, by=principal)

    with pytest.raises(ConfigurationInvalid) as refusal:
        restore_revision(configuration=configuration, number=1, by=principal)

    assert refusal.value.details == {"router.rules[0].steps[0].keys[0].id": "There is no provider key with this ID."}
    assert numbers(configuration) == [1, 2]


def test_a_restore_minds_the_state_that_its_caller_has_seen(configuration: Configuration, principal: Principal) -> None:
    seen = IfMatch(frozenset({etag_of(configuration)}))
    update_configuration(configuration=configuration, by=principal, name="meanwhile")

    with pytest.raises(PreconditionFailed):
        restore_revision(configuration=configuration, number=1, by=principal, if_match=seen)


def test_a_revision_that_is_not_there_is_not_found(configuration: Configuration, principal: Principal) -> None:
    other = create_configuration(account=configuration.account, by=principal, name="other")

    with pytest.raises(NotFound):
        restore_revision(configuration=other, number=2, by=principal)


# ── how many are kept ──


def numbers_of(configuration: Configuration) -> list[int]:
    return list(configuration.revisions.order_by("number").values_list("number", flat=True))


def test_the_oldest_revisions_go_when_there_are_more_than_are_kept(account: Account, principal: Principal) -> None:
    configuration = create_configuration(account=account, by=principal, name="c")
    set_limits(account.id, {Quota.REVISIONS_OF_A_CONFIGURATION: 3})

    for change in range(5):
        update_configuration(configuration=configuration, by=principal, name=f"name {change}")

    assert numbers_of(configuration) == [4, 5, 6]
    restore_revision(configuration=configuration, number=4, by=principal)
    assert numbers_of(configuration) == [5, 6, 7]
    with pytest.raises(NotFound):
        restore_revision(configuration=configuration, number=4, by=principal)


def test_the_newest_revision_stays_whatever_the_limit(account: Account, principal: Principal) -> None:
    configuration = create_configuration(account=account, by=principal, name="c")
    set_limits(account.id, {Quota.REVISIONS_OF_A_CONFIGURATION: 0})

    update_configuration(configuration=configuration, by=principal, name="again")

    assert numbers_of(configuration) == [2]


def test_a_write_deletes_few_revisions_and_the_task_the_others(account: Account, principal: Principal) -> None:
    configuration = create_configuration(account=account, by=principal, name="c")
    for change in range(30):
        update_configuration(configuration=configuration, by=principal, name=f"name {change}")
    other = create_configuration(account=account, by=principal, name="other")
    set_limits(account.id, {Quota.REVISIONS_OF_A_CONFIGURATION: 2})

    update_configuration(configuration=configuration, by=principal, name="last")

    assert numbers_of(configuration) == list(range(11, 33))
    assert tasks.forget_revisions() == 20
    assert numbers_of(configuration) == [31, 32]
    assert numbers_of(other) == [1]
    assert tasks.forget_revisions() == 0


# ── the migration ──


def test_a_configuration_from_before_gets_its_state_as_the_first_revision(
    configuration: Configuration, account: Account, principal: Principal, known: SimpleNamespace
) -> None:
    update_configuration(configuration=configuration, by=principal, **providers(known.custom, "openai"))
    key = account.providerkey_set.get(id=configuration.routed_keys.get().provider_key_id)
    update_provider_key(provider_key=key, by=principal, name="renamed")
    Revision.objects.all().delete()

    import_module("configurations.migrations.0003_first_revisions").keep_first_revisions(apps, None)

    revision = Revision.objects.get()
    now = Configuration.objects.with_named().get(pk=configuration.pk)
    assert revision.number == 1
    assert (revision.created_at, revision.created_by) == (now.updated_at, principal.id)
    assert State.of(revision) == State.now(now)
    assert revision.names == {known.other_openai: "renamed", known.custom: "my-ollama"}
