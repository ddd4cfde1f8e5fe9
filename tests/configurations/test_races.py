"""Holds: configurations.services

Two requests at once, on two connections: what a rule names is there, and what is named is not deleted.

Django's foreign keys are checked at the commit, so neither its own look before a deletion nor an insert by itself holds
anything. These tests fail when services trust them.
"""

import random
from functools import partial

import pytest
from django.db import connection

from access_keys.models import AccessKey
from access_keys.services import create_access_key
from configurations.models import Configuration, NamedProvider, RoutedKey
from configurations.router import named_keys
from configurations.services import (
    ConfigurationInUse,
    ConfigurationInvalid,
    ConfigurationUnknown,
    create_configuration,
    delete_configuration,
    update_configuration,
)
from provider_keys.models import ProviderKey
from provider_keys.services import ProviderKeyInUse, create_provider_key, delete_provider_key
from provider_keys.values import PlainValue
from providers.provider_names import ProviderUnknown
from rest.errors import NotFound
from tests.rivals import blocked, in_background, uncommitted
from tests.rows import make_provider

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "router.rules[0].steps[0].keys[0].id"


@pytest.fixture
def provider_key(account, principal):
    return create_provider_key(
        account=account, by=principal, provider_id="openai", name="k", value=PlainValue("sk-0123456789")
    )


def router_of(*provider_keys):
    keys = [{"id": key.text_id} for key in provider_keys]
    return {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": keys}]}]}


def test_a_provider_key_deleted_meanwhile_refuses_the_rule_that_names_it(account, principal, provider_key):
    key = {"name": "inline", "value": "sk-9876543210"}
    router = router_of(provider_key)
    router["rules"].append({"provider": "groq", "steps": [{"type": "user", "keys": [key]}]})

    with uncommitted(lambda: delete_provider_key(provider_key=provider_key, by=principal)):
        outcome = blocked(lambda: create_configuration(account=account, by=principal, name="n", router=router))

    with pytest.raises(ConfigurationInvalid) as refusal:
        outcome.result(30)
    assert set(refusal.value.details) == {PATH}
    assert not Configuration.objects.exists()
    assert not ProviderKey.objects.exists(), "the inline key went with the refused router"


def test_a_provider_key_deleted_meanwhile_refuses_the_change_that_names_it(account, principal, provider_key):
    configuration = create_configuration(account=account, by=principal, name="n")

    with uncommitted(lambda: delete_provider_key(provider_key=provider_key, by=principal)):
        outcome = blocked(
            lambda: update_configuration(configuration=configuration, by=principal, router=router_of(provider_key))
        )

    with pytest.raises(ConfigurationInvalid) as refusal:
        outcome.result(30)
    assert set(refusal.value.details) == {PATH}
    assert Configuration.objects.get().router is None


def test_a_rule_written_meanwhile_refuses_the_deletion_of_its_provider_key(account, principal, provider_key):
    def write():
        create_configuration(account=account, by=principal, name="rival", router=router_of(provider_key))

    with uncommitted(write):
        outcome = blocked(lambda: delete_provider_key(provider_key=provider_key, by=principal))

    with pytest.raises(ProviderKeyInUse) as refusal:
        outcome.result(30)
    assert refusal.value.details == {Configuration.objects.get().text_id: "rival"}
    assert ProviderKey.objects.filter(pk=provider_key.pk).exists()


def test_a_rule_that_is_rolled_back_lets_the_deletion_pass(account, principal, provider_key):
    def write():
        create_configuration(account=account, by=principal, name="rival", router=router_of(provider_key))

    with pytest.raises(ZeroDivisionError), uncommitted(lambda: (write(), 1 // 0)):
        pass

    delete_provider_key(provider_key=provider_key, by=principal)
    assert not ProviderKey.objects.exists()


def test_a_link_made_meanwhile_refuses_the_deletion_of_its_configuration(account, principal):
    configuration = create_configuration(account=account, by=principal, name="n")

    def link():
        create_access_key(account=account, by=principal, name="app", configuration_id=configuration.id)

    with uncommitted(link):
        outcome = blocked(lambda: delete_configuration(configuration=configuration, by=principal))

    with pytest.raises(ConfigurationInUse) as refusal:
        outcome.result(30)
    assert refusal.value.details == {AccessKey.objects.get().text_id: "app"}


def test_a_link_made_without_the_service_refuses_the_deletion_just_so(account, principal):
    """The database has the last word, whoever forgot to lock."""
    configuration = create_configuration(account=account, by=principal, name="n")

    def link():
        AccessKey.objects.create(
            account=account, configuration=configuration, digest="0" * 64, key_redacted="gwk_***", created_by="a"
        )
        connection.check_constraints()

    with uncommitted(link):
        outcome = blocked(lambda: delete_configuration(configuration=configuration, by=principal))

    with pytest.raises(ConfigurationInUse) as refusal:
        outcome.result(30)
    assert refusal.value.details == {AccessKey.objects.get().text_id: "gwk_***"}


def test_a_configuration_deleted_meanwhile_refuses_the_link(account, principal):
    configuration = create_configuration(account=account, by=principal, name="n")

    with uncommitted(lambda: delete_configuration(configuration=configuration, by=principal)):
        outcome = blocked(lambda: create_access_key(account=account, by=principal, configuration_id=configuration.id))

    with pytest.raises(ConfigurationUnknown):
        outcome.result(30)
    assert not AccessKey.objects.exists()


@pytest.mark.parametrize(
    "written",
    [
        pytest.param({"access": {"providers": {"allow": ["my-ollama"]}}}, id="scope"),
        pytest.param({"access": {"models": {"allow": ["my-ollama:llama3.2"]}}}, id="model entry"),
        pytest.param(
            {
                "router": {
                    "rules": [
                        {
                            "provider": "my-ollama",
                            "steps": [{"type": "user", "keys": [{"name": "n", "value": "abcdefgh"}]}],
                        }
                    ]
                }
            },
            id="rule with an inline key",
        ),
    ],
)
def test_a_custom_provider_deleted_meanwhile_refuses_what_names_it(account, principal, written):
    provider = make_provider(account)

    with uncommitted(provider.delete):
        outcome = blocked(lambda: create_configuration(account=account, by=principal, name="n", **written))

    with pytest.raises(ConfigurationInvalid) as refusal:
        outcome.result(30)
    assert len(refusal.value.details) == 1
    assert (Configuration.objects.count(), ProviderKey.objects.count()) == (0, 0)


def test_a_custom_provider_deleted_meanwhile_refuses_its_provider_key(account, principal):
    provider = make_provider(account)

    def write():
        return create_provider_key(
            account=account, by=principal, provider_id="my-ollama", name="k", value=PlainValue("abcdefgh")
        )

    with uncommitted(provider.delete):
        outcome = blocked(write)

    with pytest.raises(ProviderUnknown) as refusal:
        outcome.result(30)
    assert set(refusal.value.details) == {"providerId"}
    assert not ProviderKey.objects.exists()


def test_a_change_of_what_was_deleted_meanwhile_finds_nothing(account, principal):
    configuration = create_configuration(account=account, by=principal, name="n")

    with uncommitted(lambda: delete_configuration(configuration=configuration, by=principal)):
        outcome = blocked(lambda: update_configuration(configuration=configuration, by=principal, name="new"))

    with pytest.raises(NotFound):
        outcome.result(30)


def test_writers_and_deleters_in_a_crowd_leave_no_rule_without_its_key(account, principal):
    """60 rounds on 4 connections; each refusal is a named one, and the rows agree with the routers in the end."""

    def new_key():
        value = PlainValue("sk-0123456789")
        return create_provider_key(account=account, by=principal, provider_id="openai", name="k", value=value)

    keys = [new_key() for _ in range(6)]
    configurations = [create_configuration(account=account, by=principal, name=str(n)) for n in range(3)]

    def change(dice):
        for _ in range(15):
            configuration = dice.choice(configurations)
            named = dice.sample(keys, dice.randint(0, 3))
            router = router_of(*named) if named else None
            try:
                if dice.random() < 0.3:
                    delete_provider_key(provider_key=dice.choice(keys), by=principal)
                else:
                    update_configuration(configuration=configuration, by=principal, router=router)
            except (ProviderKeyInUse, ConfigurationInvalid, NotFound):
                continue

    for outcome in [in_background(partial(change, random.Random(seed))) for seed in range(4)]:
        outcome.result(60)

    for configuration in Configuration.objects.all():
        held = set(RoutedKey.objects.filter(configuration=configuration).values_list("provider_key_id", flat=True))
        assert held == named_keys(configuration.router)
    assert not NamedProvider.objects.exists()
