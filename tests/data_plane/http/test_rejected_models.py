"""Holds: gateway_core.plans, data_plane.http.app, data_plane.errors

The candidates that were passed over stand in a header, of an answer and of a refusal, and explaining says the same.
"""

import re

import pytest

from gateway_core.plans import DenialCode, Skipped, rejected_models
from gateway_core.snapshot import Rule, Scope, Step
from local.stand_in import StandIn
from tests.workers import Client, Tenant

KEY = "sk-own-0123456789abcdefghijkl"
HEADER = "gateway-rejected-models"
# What a list of strings with one parameter each may look like (RFC 9651).
LIST = re.compile(r'"(?:[ !#-\[\]-~]|\\["\\])*";code=[a-z_]+(?:, "(?:[ !#-\[\]-~]|\\["\\])*";code=[a-z_]+)*')


@pytest.fixture
def token(alice: Tenant) -> str:
    """Of a key that may reach two models of OpenAI."""
    rule = Rule(provider="openai", steps=(Step("user", tuple(alice.keys(KEY))),))
    scope = Scope(models=(("openai", "gpt-4o"), ("openai", "o3"), ("groq", "llama-3.3-70b-versatile")))
    return alice.token(configuration=alice.configuration(rule, scope=scope))


@pytest.mark.parametrize(
    ("models", "shown"),
    [
        (["openai:gpt-5", "openai:gpt-4o"], '"openai:gpt-5";code=model_not_allowed'),
        (["nobody:x", "openai:gpt-4o"], '"nobody:x";code=provider_unknown'),
        (
            ["no-such-model", "openai:gpt-4o", "openai:gpt-5"],
            '"no-such-model";code=model_unknown, "openai:gpt-5";code=model_not_allowed',
        ),
        (["groq:llama-3.3-70b-versatile", "openai:o3"], '"groq:llama-3.3-70b-versatile";code=no_credentials'),
        (["openai:gpt-4o", "openai:gpt-5"], '"openai:gpt-5";code=model_not_allowed'),
    ],
)
async def test_an_answer_names_the_candidates_that_were_passed_over(
    client: Client, token: str, upstream: StandIn, models: list[str], shown: str
):
    for stream in (False, True):
        answer = await client.chat(token, models[0], models=models[1:], stream=stream)

        assert (answer.status, answer.headers[HEADER]) == (200, shown)


async def test_an_answer_without_such_a_candidate_has_no_such_header(client: Client, token: str):
    assert HEADER not in (await client.chat(token, "openai:gpt-4o")).headers


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("openai:gpt-5", '"openai:gpt-5";code=model_not_allowed'),
        ("nobody:x", '"nobody:x";code=provider_unknown'),
        ('a"b\\c', '"a\\"b\\\\c";code=model_unknown'),
        ("ü" * 5, '"?????";code=model_unknown'),
        ("x" * 500, f'"{"x" * 100}";code=model_unknown'),
    ],
)
async def test_a_refusal_names_them_too_whatever_they_are_called(
    client: Client, token: str, upstream: StandIn, model: str, shown: str
):
    for answer in (await client.chat(token, model), await client.message(token, model)):
        assert answer.status == 404
        assert answer.headers[HEADER] == shown
        assert LIST.fullmatch(shown)
    assert not upstream.calls


async def test_an_upstreams_failure_names_them_too(client: Client, alice: Tenant):
    token = alice.routed("sk-bad-401-0123456789abcdefghij")

    answer = await client.chat(token, "nobody:x", models=["openai:gpt-4o"])

    assert (answer.status, answer.headers[HEADER]) == (502, '"nobody:x";code=provider_unknown')


def test_it_is_bounded_and_each_stands_there_once():
    many = [Skipped(f"m{number}", None, None, DenialCode.MODEL_UNKNOWN, "") for number in range(100)]
    steps = [Skipped("x", "openai", "x", DenialCode.NO_CREDITS, "", step) for step in range(3)]

    assert rejected_models(many).count(";code=") == 10
    assert rejected_models(steps) == '"openai:x";code=no_credits'
    assert rejected_models(steps, {("openai", "x")}) == ""
