"""Holds: rest.read_only, accounts.owned.services

What was read can be sent back, and a PATCH that changes nothing leaves no trace.
"""

import pytest

from audit.models import Event, PendingEvent

SECRET = "sk-0123456789abcdefghijklmnop"
ROUTER = {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "inline", "value": SECRET}]}]}]}
MADE = {
    "access-keys": {"name": "a", "description": "d", "expiresAt": "2999-01-01T00:00:00Z", "disabled": True},
    "api-keys": {"name": "a", "metadata": "m"},
    "access-key-configurations": {"name": "c", "access": {"models": {"allow": ["openai:gpt-4o"]}}, "router": ROUTER},
    "provider-keys": {"providerId": "openai", "name": "p", "value": SECRET},
    "providers": {
        "providerId": "mine",
        "name": "m",
        "baseUrl": "https://llm.example.com",
        "models": [{"modelId": "x"}, {"modelId": "y"}],
        "supportedApiSurfaces": [{"format": "openai", "surface": "responses"}],
    },
}
OWN = {"id": "aigk_00000000000000000000000000", "createdAt": "2001-01-01T00:00:00Z", "createdBy": {"id": "x"}}


def events():
    return Event.objects.count() + PendingEvent.objects.count()


def made(api, path):
    answer = api.post(path, MADE[path])
    assert answer.status_code == 201, answer.content
    return f"{path}/{answer.json()['id']}"


@pytest.mark.parametrize("path", [*MADE, "gateway-config"])
def test_an_object_is_sent_back_as_it_was_read_and_nothing_changes(api, path):
    place = path if path == "gateway-config" else made(api, path)
    before, recorded = api.get(place), events()

    answer = api.patch(place, before.json())

    assert answer.status_code == 200, answer.content
    assert answer.json() == before.json()
    assert answer["ETag"] == before["ETag"]
    assert events() == recorded


@pytest.mark.parametrize("path", MADE)
@pytest.mark.parametrize("name", OWN)
def test_a_read_only_member_that_is_not_the_objects_own_is_refused(api, path, name):
    place = made(api, path)

    answer = api.patch(place, {**api.get(place).json(), name: OWN[name], "name": 7, "colour": "red"})

    assert answer.status_code == 422
    assert set(answer.json()["details"]) == {name, "name", "colour"}, "every fault at once"
    assert "read only" in answer.json()["details"][name]


def test_the_provider_key_of_a_router_that_is_sent_back_keeps_its_name(api):
    place = made(api, "access-key-configurations")
    router = api.get(place).json()["router"]
    router["rules"][0]["steps"][0]["keys"][0]["name"] = "other"

    assert api.patch(place, {"router": router}).status_code == 200
    assert api.get(place).json()["router"]["rules"][0]["steps"][0]["keys"][0]["name"] == "inline"


@pytest.mark.parametrize("path", ["access-keys", "api-keys"])
def test_a_time_that_has_passed_is_no_expiry(api, path):
    past = {"expiresAt": "2001-01-01T00:00:00Z"}

    assert api.post(path, past).status_code == 422
    assert api.patch(made(api, path), past).status_code == 422


def test_a_repeated_answer_is_marked(api):
    first, second = (api.post("access-keys", {"name": "a"}, idempotency_key="k") for _ in range(2))

    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
