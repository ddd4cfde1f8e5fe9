"""Holds: configurations.explain

Explaining over the wire: the policy's answer for keys, configurations and drafts, with nothing written.
"""

import time

import msgspec
import pytest
from redis.exceptions import RedisError

from access_keys.models import AccessKey
from configurations.models import Configuration
from gateway_core import ids
from gateway_core.worker_reports import CoolingKey
from provider_keys.models import ProviderKey
from snapshots.models import Change
from tests.snapshots.test_waiting import Worker

pytestmark = pytest.mark.django_db

VALUE = "sk-explain-0123456789abcdefghijklmnop"


def store_key(api, provider="openai", name="one"):
    return api.post("provider-keys", {"providerId": provider, "name": name, "value": VALUE}).json()["id"]


def routed(api, key, **more):
    body = {
        "name": "routed",
        "router": {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": key}]}]}]},
    }
    return api.post("access-key-configurations", body | more).json()["id"]


def test_an_access_key_without_a_configuration_uses_the_newest_stored_key(api):
    older, newer = store_key(api), store_key(api, name="two")
    access_key = api.post("access-keys", {}).json()["id"]

    answer = api.post(f"access-keys/{access_key}/explain", {"model": "gpt-4o", "assume": {"failing": [newer]}})

    assert answer.status_code == 200
    body = answer.json()
    assert body["isAllowed"]
    assert [(one["providerKeyId"], one["outcome"]) for one in body["attempts"]] == [
        (newer, "fails"),
        (older, "answers"),
    ]
    assert body["attempts"][0]["keyRedacted"] == "sk-explain***mnop"
    assert VALUE not in answer.content.decode()


def test_an_access_key_is_explained_by_its_configuration(api):
    key = store_key(api)
    configuration = routed(api, key, access={"models": {"allow": ["openai:gpt-4o"]}})
    access_key = api.post("access-keys", {"accessKeyConfigurationId": configuration}).json()["id"]

    allowed = api.post(f"access-keys/{access_key}/explain", {"model": "gpt-4o"}).json()
    refused = api.post(f"access-keys/{access_key}/explain", {"model": "openai:o3"}).json()

    assert allowed["candidates"][0]["allowedBy"] == ["access.models.allow[0]"]
    assert allowed["attempts"][0]["credentialsFrom"] == "router.rules[0].steps[0]"
    assert refused["errorCode"] == "model_not_allowed"
    assert refused["change"] == {
        "msg": "Allow the model openai:o3.",
        "path": "access.models.allow",
        "add": "openai:o3",
    }


def test_a_stored_configuration_and_the_same_as_a_draft_are_explained_alike(api):
    key = store_key(api)
    configuration = routed(api, key)
    stored = api.get(f"access-key-configurations/{configuration}").json()
    question = {"models": ["gpt-4o", "groq:x"], "surface": "chat-completions"}
    draft = {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"id": key}]}]}]}

    by_id = api.post("access-key-configurations/explain", {**question, "configurationId": configuration})
    by_draft = api.post("access-key-configurations/explain", {**question, "router": draft})

    assert by_id.status_code == by_draft.status_code == 200
    assert by_id.json() == by_draft.json()
    assert stored["router"]["rules"][0]["steps"][0]["keys"][0]["id"] == by_id.json()["attempts"][0]["providerKeyId"]


def test_a_drafts_inline_key_stands_in_the_plan_and_nothing_is_stored(api):
    draft = {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "new", "value": VALUE}]}]}]}

    answer = api.post("access-key-configurations/explain", {"model": "gpt-4o", "router": draft})

    assert answer.json()["attempts"][0]["keyRedacted"] == "sk-explain***mnop"
    assert VALUE not in answer.content.decode()
    assert not ProviderKey.objects.exists()
    assert not Configuration.objects.exists()
    assert not Change.objects.exists()


def test_explaining_writes_nothing(api):
    key = store_key(api)
    access_key = api.post("access-keys", {}).json()["id"]
    before = (
        list(AccessKey.objects.values()),
        list(ProviderKey.objects.values("id", "updated_at")),
        Change.objects.count(),
    )

    api.post(f"access-keys/{access_key}/explain", {"model": "gpt-4o"})

    assert (
        list(AccessKey.objects.values()),
        list(ProviderKey.objects.values("id", "updated_at")),
        Change.objects.count(),
    ) == before
    assert key


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"models": []}, "models"),
        ({"models": "gpt-4o"}, "models"),
        ({"models": [7]}, "models[0]"),
        ({"model": "x", "surface": "telepathy"}, "surface"),
        ({"model": "x", "streaming": "yes"}, "streaming"),
        ({"model": "x", "assume": {"failing": "openai"}}, "assume.failing"),
        ({"model": "x", "assume": {"fails": []}}, "assume.fails"),
        ({"model": "x", "modell": "y"}, "modell"),
        ({"model": "x" * 600}, "model"),
    ],
)
def test_a_question_that_is_none_is_refused(api, body, path):
    access_key = api.post("access-keys", {}).json()["id"]

    for where in (f"access-keys/{access_key}/explain", "access-key-configurations/explain"):
        answer = api.post(where, body)

        assert answer.status_code == 422, answer.content
        assert path in answer.json()["details"]


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"configurationId": "aigk_" + "0" * 26}, "invalid_request", "configurationId"),
        (
            {"configurationId": ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id())},
            "configuration_unknown",
            "configurationId",
        ),
        ({"access": {"providers": {"allow": ["opnai"]}}}, "configuration_invalid", "access.providers.allow[0]"),
        ({"router": {"rules": [{}]}}, "configuration_invalid", "router.rules[0]"),
    ],
)
def test_a_draft_is_held_to_the_rules_of_a_write(api, body, code, path):
    answer = api.post("access-key-configurations/explain", {"model": "gpt-4o", **body})

    assert answer.status_code == 422
    assert answer.json()["errorCode"] == code
    assert path in answer.json()["details"]


def test_a_stored_configuration_and_a_draft_at_once_are_refused(api):
    configuration = api.post("access-key-configurations", {"name": "x"}).json()["id"]

    answer = api.post(
        "access-key-configurations/explain", {"model": "x", "configurationId": configuration, "access": {}}
    )

    assert answer.status_code == 422
    assert "configurationId" in answer.json()["details"]


def test_another_accounts_key_and_configuration_do_not_exist(api, other_api):
    access_key = api.post("access-keys", {}).json()["id"]
    configuration = api.post("access-key-configurations", {"name": "x"}).json()["id"]

    assert other_api.post(f"access-keys/{access_key}/explain", {"model": "x"}).status_code == 404
    foreign = other_api.post("access-key-configurations/explain", {"model": "x", "configurationId": configuration})
    assert foreign.status_code == 422
    assert foreign.json()["errorCode"] == "configuration_unknown"


def test_the_other_accounts_provider_keys_are_in_no_plan(api, other_api):
    store_key(other_api)
    access_key = api.post("access-keys", {}).json()["id"]

    answer = api.post(f"access-keys/{access_key}/explain", {"model": "gpt-4o"}).json()

    assert answer["errorCode"] == "no_credentials"
    assert answer["attempts"] == []


def test_what_workers_pass_over_now_stands_with_its_attempt_and_nothing_of_another_account(api, account, redis):
    key, other = store_key(api), store_key(api, name="two")
    now = time.time_ns() // 1000
    minute = 60_000_000
    cools = CoolingKey(
        account=account.text_id,
        provider="openai",
        provider_key=key,
        model="gpt-4o",
        cause="rate_limited",
        since=1_700_000_000_000_000,
        until=now + minute,
    )
    of = msgspec.structs.replace
    silent, telling = Worker(redis), Worker(redis)
    silent.report()
    telling.report(
        cooling=(
            cools,
            of(cools, provider_key=other, account="ac_01h455vb4pex5vsknk084sn02q"),
            of(cools, provider_key=other, model="gpt-4o-mini"),
            of(cools, provider_key=other, until=now - minute),
        )
    )
    configuration = routed(api, key)

    answers = [
        api.post("access-key-configurations/explain", {"configurationId": configuration, "model": "gpt-4o"}).json(),
        api.post(f"access-keys/{api.post('access-keys', {}).json()['id']}/explain", {"model": "gpt-4o"}).json(),
    ]

    for answer in answers:
        cooling = {one["providerKeyId"]: one.get("cooling") for one in answer["attempts"]}
        (at,) = cooling.pop(key)
        assert (at["workerId"], at["cause"], at["since"]) == (telling.id, "rate_limited", "2023-11-14T22:13:20Z")
        assert set(cooling.values()) <= {None}
    assert other in {one["providerKeyId"] for one in answers[1]["attempts"]}


def test_without_redis_an_explanation_leaves_the_workers_out(api, redis, monkeypatch):
    def away():
        raise RedisError

    monkeypatch.setattr("configurations.cooling.read_workers", away)

    answer = api.post(
        "access-key-configurations/explain", {"configurationId": routed(api, store_key(api)), "model": "gpt-4o"}
    )

    assert answer.status_code == 200
    assert "cooling" not in answer.json()["attempts"][0]


def test_a_strategy_stands_with_the_attempts_of_its_step(api):
    keys = [{"id": store_key(api)}, {"id": store_key(api, name="two"), "weight": 5}]
    step = {"type": "user", "keys": keys, "keySelectionStrategy": "weighted"}
    router = {
        "rules": [{"provider": "openai", "steps": [step, {"type": "user", "keys": [{"id": store_key(api, name="3")}]}]}]
    }

    attempts = api.post("access-key-configurations/explain", {"router": router, "model": "gpt-4o"}).json()["attempts"]

    assert [one.get("keySelectionStrategy") for one in attempts] == ["weighted", "weighted", None]
    assert [one["providerKeyId"] for one in attempts[:2]] == [key["id"] for key in keys]
