"""Holds: dashboard.wording.scope_summary

What a configuration lets through in words, and what a change of it takes away.
"""

import uuid

import pytest

from dashboard.wording.scope_summary import ProviderNames, allowance, listed, losses
from gateway_core import ids

IDENTITY = uuid.UUID("01890000-0000-7000-8000-000000000001")
OLLAMA = ids.to_text(ids.Prefix.PROVIDER, IDENTITY)
NAMES = ProviderNames([(IDENTITY, "my-ollama", "Ollama in the lab")])

USER = {"type": "user", "keys": [{"name": "new", "value": "not looked at"}]}


def scope(providers=None, models=None):
    halves = {"providers": providers, "models": models}
    return {name: {"allow": entries} for name, entries in halves.items() if entries is not None}


def rules(*subjects):
    return {"rules": [{"model" if ":" in one else "provider": one, "steps": [USER]} for one in subjects]}


@pytest.mark.parametrize("access", [None, {}, {"providers": {}}, {"providers": {}, "models": {}}])
def test_what_restricts_nothing_allows_everything(access):
    assert allowance(access, NAMES) == ("Everything: every provider and every model.", False)


@pytest.mark.parametrize(
    ("access", "sentence"),
    [
        (scope(["openai", OLLAMA]), "Every model of OpenAI and Ollama in the lab."),
        (scope(models=["openai:gpt-4o"]), "Only openai:gpt-4o."),
        (scope(models=[f"{OLLAMA}:llama3.2", "meta-llama/x"]), "Only my-ollama:llama3.2 and meta-llama/x."),
        (scope(["groq"], ["groq:a", "x/b"]), "Only groq:a and x/b, and only at Groq."),
    ],
)
def test_a_scope_is_said_in_one_sentence(access, sentence):
    assert allowance(access, NAMES) == (sentence, False)


@pytest.mark.parametrize("access", [scope([]), scope(models=[]), scope(["openai"], []), scope([], ["openai:gpt-4o"])])
def test_an_empty_list_is_said_to_block_everything(access):
    found = allowance(access, NAMES)

    assert found.is_nothing
    assert found.sentence.startswith("Nothing: no ")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("A", "A"),
        ("AB", "A and B"),
        ("ABC", "A, B and C"),
        ("ABCD", "A, B, C and D"),
        ("ABCDEF", "A, B, C, D and 2 more"),
    ],
)
def test_of_a_long_list_a_few_are_named_and_the_rest_counted(names, text):
    assert listed(list(names)) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None),
        (scope(["openai"]), None),
        (scope(["openai"]), scope(["groq", "openai"])),
        (scope([]), scope(["openai"])),
        (scope([OLLAMA]), scope(["my-ollama"])),
        (scope(models=["openai:gpt-4o"]), scope(models=["openai:openai/GPT-4o", "x/m"])),
        (scope(models=["X/m"]), scope(models=["x/M"])),
    ],
)
def test_a_scope_that_allows_as_much_or_more_takes_nothing_away(before, after):
    assert losses((before, None), (after, None), NAMES) == []


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        (
            None,
            scope(["openai"]),
            ["Of the providers only OpenAI may still be reached; until now every provider could."],
        ),
        (scope(["openai", "groq", OLLAMA]), scope(["openai"]), ["Groq and Ollama in the lab are no longer allowed."]),
        (scope(["openai"]), scope([]), ["No provider is allowed any more: every request is refused."]),
        (None, scope(models=[]), ["No model is allowed any more: every request is refused."]),
        (scope(models=["openai:gpt-4o", "x/m"]), scope(models=["x/m"]), ["openai:gpt-4o is no longer allowed."]),
        (
            scope(["openai", "groq"], ["openai:a"]),
            scope(["groq"], ["groq:b"]),
            ["OpenAI is no longer allowed.", "openai:a is no longer allowed."],
        ),
    ],
)
def test_what_a_scope_takes_away_is_named(before, after, sentences):
    assert losses((before, None), (after, None), NAMES) == sentences


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        (rules("groq"), rules("openai"), ["Groq has no rule any more: nothing gives it credentials."]),
        (rules("openai"), None, ["OpenAI has no rule any more: only managed inference is left for it."]),
        (rules(OLLAMA), rules(), ["Ollama in the lab has no rule any more: it is called without credentials."]),
        (rules("groq:a"), rules("groq:b"), ["groq:a has no rule any more: nothing gives it credentials."]),
        (rules("groq:a"), rules("groq"), []),
        (rules("groq", "openai"), rules("openai", "groq", "groq:a"), []),
        (rules("my-ollama"), rules(OLLAMA), []),
    ],
)
def test_a_rule_that_is_gone_is_told_with_what_is_left(before, after, sentences):
    assert losses((None, before), (None, after), NAMES) == sentences
