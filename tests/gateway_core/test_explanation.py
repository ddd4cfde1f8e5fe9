"""Holds: gateway_core.explanation

Explaining: the policy's decision in words, with the place that decided and the change that would help.
"""

import msgspec
import pytest

from gateway_core.catalog import Surface
from gateway_core.explanation import ALL_ATTEMPTS_FAILED, explain
from gateway_core.plans import DenialCode, KeySource
from gateway_core.snapshot import ConfigurationDocument, Rule, Scope, Step
from tests.gateway_core.test_policy import CATALOG, CHAT, CONFIGURATION, KEY, MANAGED, NEW_KEY, OLD_KEY, account

ROUTED = ConfigurationDocument(
    scope=Scope(providers=("groq", "openai"), models=(("openai", "o3"), ("openai", "gpt-4o"))),
    rules=(
        Rule(provider="groq", steps=(Step("ngrok"),)),
        Rule(provider="openai", steps=(Step("ngrok"), Step("user", (KEY, NEW_KEY)))),
    ),
)


def ask(snapshot, *requested, configuration=CONFIGURATION, surface=CHAT, catalog=CATALOG, failing=()):
    return explain(
        snapshot, catalog, configuration=configuration, requested=requested, surface=surface, failing=failing
    )


def routed():
    return account(ROUTED, keys=[(KEY, "openai"), (NEW_KEY, "openai")])


def test_an_allowed_request_names_the_entries_the_rule_and_each_attempt():
    answer = ask(routed(), "gpt-4o")

    assert answer.is_allowed
    (candidate,) = answer.candidates
    assert candidate.allowed_by == ("access.providers.allow[1]", "access.models.allow[1]")
    assert candidate.credentials_from == "router.rules[1]"
    assert [(one.provider_key_id, one.key_redacted, one.outcome) for one in answer.attempts] == [
        (KEY, "***", "answers"),
        (NEW_KEY, "***", "isNotReached"),
    ]
    assert {one.credentials_from for one in answer.attempts} == {"router.rules[1].steps[1]"}
    assert [(one.error_code, one.path) for one in answer.skipped_steps] == [
        (DenialCode.NO_CREDENTIALS, "router.rules[1].steps[0]")
    ]


@pytest.mark.parametrize(
    ("failing", "outcomes", "code"),
    [
        ((), ["answers", "isNotReached"], None),
        ((KEY,), ["fails", "answers"], None),
        ((NEW_KEY,), ["answers", "isNotReached"], None),
        ((KEY, NEW_KEY), ["fails", "fails"], ALL_ATTEMPTS_FAILED),
        (("openai",), ["fails", "fails"], ALL_ATTEMPTS_FAILED),
        (("groq", OLD_KEY), ["answers", "isNotReached"], None),
    ],
)
def test_what_is_assumed_to_fail_moves_the_answer_on(failing, outcomes, code):
    answer = ask(routed(), "gpt-4o", failing=failing)

    assert [one.outcome for one in answer.attempts] == outcomes
    assert answer.error_code == code
    assert answer.is_allowed


@pytest.mark.parametrize(
    ("snapshot", "requested", "surface", "code", "path", "add"),
    [
        (routed, "anthropic:x", CHAT, DenialCode.PROVIDER_NOT_ALLOWED, "access.providers.allow", "anthropic"),
        (routed, "openai:gpt-4o-mini", CHAT, DenialCode.MODEL_NOT_ALLOWED, "access.models.allow", "openai:gpt-4o-mini"),
        (routed, "gpt-4o", Surface.MESSAGES, DenialCode.SURFACE_NOT_SERVED, "surface", None),
        (routed, "gpt4o", CHAT, DenialCode.MODEL_UNKNOWN, "model", "openai:gpt-4o"),
        (
            lambda: account(ConfigurationDocument(), keys=[(KEY, "openai")]),
            "gpt-4o",
            CHAT,
            DenialCode.NO_CREDENTIALS,
            "router.rules",
            KEY,
        ),
        (
            lambda: account(ConfigurationDocument()),
            "gpt-4o",
            CHAT,
            DenialCode.NO_CREDENTIALS,
            "provider-keys",
            "openai",
        ),
    ],
)
def test_a_refusal_names_the_nearest_change(snapshot, requested, surface, code, path, add):
    answer = ask(snapshot(), requested, surface=surface)

    assert not answer.is_allowed
    assert answer.error_code == code
    assert answer.change is not None
    assert (answer.change.path, answer.change.add) == (path, add)
    assert answer.candidates[0].error_code == code


def test_no_credits_are_told_as_such():
    answer = ask(account(), "gpt-4o", configuration=None, catalog=MANAGED)

    assert answer.error_code == DenialCode.NO_CREDITS
    assert "credits" in answer.change.msg


def test_a_key_without_a_configuration_needs_only_a_stored_key():
    answer = ask(account(), "gpt-4o", configuration=None)

    assert answer.change.add == "openai"
    assert "route" not in answer.change.msg


def test_the_answer_is_json_without_a_sealed_value():
    text = msgspec.json.encode(ask(routed(), "gpt-4o")).decode()

    assert '"attemptNumber":1' in text
    assert '"keySource":"user"' in text
    assert "sealed" not in text
    assert KeySource.USER in text


def test_a_model_asked_for_twice_is_explained_twice_and_tried_once():
    answer = ask(routed(), "gpt-4o", "openai/gpt-4o")

    assert len(answer.candidates) == 2
    assert len(answer.attempts) == 2  # one for each key


@pytest.mark.parametrize(
    ("model", "surface", "removed"),
    [
        ("openai:o3", Surface.RESPONSES, ("temperature", "top_p", "top_logprobs")),
        ("openai:gpt-4o", Surface.CHAT_COMPLETIONS, ("reasoning_effort",)),
        ("openai:gpt-4o", Surface.EMBEDDINGS, None),
    ],
)
def test_an_attempt_shows_what_its_model_does_not_take(model, surface, removed):
    answer = ask(account(keys=[(KEY, "openai")]), model, configuration=None, surface=surface)

    assert [attempt.removed_params for attempt in answer.attempts] == [removed]
