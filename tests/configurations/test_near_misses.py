"""Holds: configurations.near_misses

A model entry that the catalog does not have, but nearly, is accepted with a warning; nothing else is warned of.
"""

import pytest

from configurations import near_misses as misses
from providers.models import Provider

pytestmark = pytest.mark.django_db

PATH = "access-key-configurations"


def written(api, *entries, rules=()):
    body = {
        "name": "c",
        "access": {"models": {"allow": list(entries)}},
        "router": {"rules": [{"model": model, "steps": [{"type": "ngrok"}]} for model in rules]},
    }
    answer = api.post(PATH, body)
    assert answer.status_code == 201, answer.content
    return answer.json()


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("openai:gpt-4q", "openai:gpt-4o"),
        ("openai:GPT4o-mini", "openai:gpt-4o-mini"),
        ("openai:openai/gpt-4q", "openai:gpt-4o"),
        ("openai/gpt-4q", "openai:gpt-4o"),
        ("anthropic:claude-sonet-4-5", "anthropic:claude-sonnet-4-5"),
        ("groq:llama-3.3-70b-versatil", "groq:llama-3.3-70b-versatile"),
        ("meta-llama/llama-3.3-70b-instuct", "meta-llama/llama-3.3-70b-instruct"),
    ],
)
def test_an_entry_that_nearly_names_a_model_is_accepted_with_a_warning(api, entry, meant):
    made = written(api, "openai:o3", entry)

    assert made["access"]["models"]["allow"] == ["openai:o3", entry]
    assert [warning["path"] for warning in made["warnings"]] == ["access.models.allow[1]"]
    assert meant in made["warnings"][0]["msg"]
    assert set(made["warnings"][0]) == {"path", "msg"}


@pytest.mark.parametrize(
    "entry",
    [
        "openai:gpt-4o",
        "OPENAI/gpt-4o",
        "openai:gpt-4o-2024-08-06",
        "groq:openai/gpt-oss-120b",
        "meta-llama/llama-3.3-70b-instruct",
        "openai:a-name-that-nobody-has",
        "openai:ft:gpt-4o:acme::x1",
        "nobody/has-this-one-at-all",
    ],
)
def test_an_entry_that_is_known_or_resembles_nothing_has_no_warning(api, entry):
    assert "warnings" not in written(api, entry)


def test_a_rule_for_a_mistyped_model_is_warned_of_at_its_place(api):
    made = written(api, rules=["openai:gpt-4o", "anthropic:claude-sonet-4-5"])

    assert [warning["path"] for warning in made["warnings"]] == ["router.rules[1].model"]


def test_the_models_of_a_custom_provider_are_its_own_matter(api):
    made = api.post("providers", {"providerId": "mine", "name": "m", "baseUrl": "https://llm.example.com"}).json()

    assert "warnings" not in written(api, "mine:gpt-4q", "mine/gpt-4qq", f"{made['id']}:gpt-4qqq")


def test_an_own_provider_with_the_name_of_a_built_in_one_is_not_measured_by_the_catalog(api):
    api.post("providers", {"providerId": "mine", "name": "m", "baseUrl": "https://llm.example.com"})
    Provider.objects.update(slug="openai")

    assert "warnings" not in written(api, "openai:gpt-4q")


def test_a_change_is_warned_of_by_what_it_writes_and_a_read_never(api):
    stored = f"{PATH}/{written(api, 'openai:gpt-4q')['id']}"

    assert "warnings" not in api.get(stored).json()
    assert "warnings" not in api.patch(stored, {"name": "d"}).json()
    changed = api.patch(stored, {"access": {"models": {"allow": ["openai:gpt-4oo"]}}}).json()
    assert [warning["path"] for warning in changed["warnings"]] == ["access.models.allow[0]"]


def test_the_same_request_sent_again_is_warned_of_again(api):
    body = {"name": "c", "access": {"models": {"allow": ["openai:gpt-4q"]}}}

    answers = [api.post(PATH, body, idempotency_key="once").json() for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0]["warnings"]


def test_a_thousand_unknown_models_cost_a_bounded_number_of_searches(api, monkeypatch):
    searched = []

    def search(*asked):
        searched.append(asked)
        return []

    monkeypatch.setattr(misses, "_nearest", search)

    written(api, *(f"openai:model-{number}" for number in range(1000)))

    assert len(searched) == misses._MOST_SEARCHES


def test_a_warning_does_not_repeat_what_was_written(api):
    assert "gpt-4qq" not in written(api, "openai:gpt-4qq")["warnings"][0]["msg"]
