"""Holds: configurations.scope

The rules of `access` (contract, section 3), each on the wire.
"""

import pytest

from configurations.models import NamedProvider
from configurations.snapshot_documents import build
from gateway_core.snapshot import Scope

URL = "/access-key-configurations"


def resolved(entries, known):
    """Entries with `{custom}` for the custom provider's `aigp_…` ID."""
    return [entry.format(custom=known.custom) if isinstance(entry, str) else entry for entry in entries]


@pytest.mark.parametrize(
    ("entries", "published"),
    [
        ([], ()),
        (["openai"], ("openai",)),
        (["groq", "openai"], ("groq", "openai")),
        (["my-ollama"], ("my-ollama",)),
        (["{custom}", "openai"], ("my-ollama", "openai")),
    ],
)
def test_allowed_providers_are_published_by_provider_id(api, account, known, entries, published):
    access = {"providers": {"allow": resolved(entries, known)}}

    answer = api.post(URL, {"name": "n", "access": access})

    assert answer.json()["access"] == access
    assert build(account.configuration_set.with_named().get()).scope == Scope(providers=published)


@pytest.mark.parametrize(
    ("entry", "published"),
    [
        ("openai:gpt-4o", ("openai", "gpt-4o")),
        ("openai:openai/gpt-4o", ("openai", "openai/gpt-4o")),
        ("openai:a-model-of-tomorrow", ("openai", "a-model-of-tomorrow")),
        ("openai:ft:gpt-4o:acme", ("openai", "ft:gpt-4o:acme")),
        ("groq:openai/gpt-oss-120b", ("groq", "openai/gpt-oss-120b")),
        ("my-ollama:llama3.2:3b", ("my-ollama", "llama3.2:3b")),
        ("{custom}:llama3.2", ("my-ollama", "llama3.2")),
        ("openai/gpt-4o", ("", "openai/gpt-4o")),
        ("meta-llama/llama-3.3-70b-instruct", ("", "meta-llama/llama-3.3-70b-instruct")),
        ("meta-llama/llama-3.3:free", ("", "meta-llama/llama-3.3:free")),
        ("a/b/c", ("", "a/b/c")),
        ("my-ollama/llama3.2", ("", "my-ollama/llama3.2")),
        ("{custom}/llama3.2", ("", "my-ollama/llama3.2")),
        ("openai:" + "m" * 255, ("openai", "m" * 255)),
    ],
)
def test_a_model_entry_names_a_provider_s_model_or_an_open_id(api, account, known, entry, published):
    access = {"models": {"allow": resolved([entry], known)}}

    answer = api.post(URL, {"name": "n", "access": access})

    assert answer.status_code == 201, answer.json()
    assert answer.json()["access"] == access
    assert build(account.configuration_set.with_named().get()).scope == Scope(models=(published,))
    is_custom = "my-ollama" in entry or "{custom}" in entry
    assert NamedProvider.objects.filter(provider__slug="my-ollama").exists() == is_custom


@pytest.mark.parametrize(
    ("access", "path"),
    [
        pytest.param({"provider": {}}, "access.provider", id="an unknown dimension"),
        pytest.param({"providers": None}, "access.providers", id="a dimension null"),
        pytest.param({"models": None}, "access.models", id="the other dimension null"),
        pytest.param({"providers": ["openai"]}, "access.providers", id="a dimension that is a list"),
        pytest.param({"models": "all"}, "access.models", id="a dimension that is a string"),
        pytest.param({"providers": {"deny": []}}, "access.providers.deny", id="an unknown field in a dimension"),
        pytest.param({"providers": {"allow": None}}, "access.providers.allow", id="allow null"),
        pytest.param({"providers": {"allow": "openai"}}, "access.providers.allow", id="allow a string"),
        pytest.param({"models": {"allow": {"openai": 1}}}, "access.models.allow", id="allow an object"),
        pytest.param({"providers": {"allow": ["x"] * 1001}}, "access.providers.allow", id="too many providers"),
        pytest.param({"models": {"allow": ["x/y"] * 1001}}, "access.models.allow", id="too many models"),
    ],
)
def test_an_access_of_another_form_is_refused_at_its_path(api, assert_refused, access, path):
    details = assert_refused(api.post(URL, {"name": "n", "access": access}), 422, "configuration_invalid")

    assert set(details) == {path}


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        pytest.param(7, "string", id="a number"),
        pytest.param(None, "null", id="null"),
        pytest.param(["openai"], "string", id="a list"),
        pytest.param("", "empty", id="empty"),
        pytest.param("*", "no provider", id="a wildcard"),
        pytest.param("openai\n", "control character", id="a newline"),
        pytest.param(" openai", "openai", id="white space"),
        pytest.param("OpenAI", "openai", id="upper case"),
        pytest.param("opnai", "openai", id="a misspelt built-in"),
        pytest.param("my-olama", "my-ollama", id="a misspelt custom"),
        pytest.param("openai:gpt-4o", "no provider", id="a model"),
        pytest.param("aigp_01h455vb4pex5vsknk084sn02q", "no provider", id="nobody's aigp_ ID"),
        pytest.param("p" * 256, "255", id="too long"),
    ],
)
def test_a_provider_entry_that_names_no_provider_is_refused_with_the_nearest(api, known, assert_refused, entry, hint):
    answer = api.post(URL, {"name": "n", "access": {"providers": {"allow": ["groq", entry]}}})

    details = assert_refused(answer, 422, "configuration_invalid")
    assert set(details) == {"access.providers.allow[1]"}
    assert hint in details["access.providers.allow[1]"]


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        pytest.param(7, "string", id="a number"),
        pytest.param(None, "null", id="null"),
        pytest.param("", "empty", id="empty"),
        pytest.param("gpt-4o", "openai:gpt-4o", id="a bare name"),
        pytest.param("*", "openai:gpt-4o", id="a wildcard"),
        pytest.param("opnai:gpt-4o", "openai", id="an unknown provider"),
        pytest.param("OpenAI:gpt-4o", "openai", id="a provider in upper case"),
        pytest.param("my-olama:llama3.2", "my-ollama", id="a misspelt custom provider"),
        pytest.param("aigp_01h455vb4pex5vsknk084sn02q:llama3.2", "no provider", id="nobody's aigp_ ID"),
        pytest.param("aigp_01h455vb4pex5vsknk084sn02q/llama3.2", "no provider", id="the same in an open ID"),
        pytest.param(":gpt-4o", "no provider", id="nothing before the colon"),
        pytest.param("openai:", "missing", id="nothing after the colon"),
        pytest.param("openai: gpt-4o", "white space", id="white space"),
        pytest.param("openai:gpt-4o ", "white space", id="white space at the end"),
        pytest.param("x /m", "white space", id="white space before the slash"),
        pytest.param("x/ m", "white space", id="white space behind the slash"),
        pytest.param("/gpt-4o", "each side", id="nothing before the slash"),
        pytest.param("openai/", "each side", id="nothing after the slash"),
        pytest.param("openai:gpt\x004o", "control character", id="NUL"),
        pytest.param("openai:" + "m" * 256, "255", id="a model too long"),
        pytest.param("x/" + "m" * 254, "255", id="an open ID too long"),
        pytest.param("x" * 512, "511", id="far too long"),
    ],
)
def test_a_model_entry_that_names_no_model_is_refused_with_a_hint(api, known, assert_refused, entry, hint):
    answer = api.post(URL, {"name": "n", "access": {"models": {"allow": ["groq:a", entry]}}})

    if isinstance(entry, str) and "\0" in entry:
        assert answer.status_code in {400, 422}
        return
    details = assert_refused(answer, 422, "configuration_invalid")
    assert set(details) == {"access.models.allow[1]"}
    assert hint in details["access.models.allow[1]"]


@pytest.mark.parametrize("first", ["my-ollama", "{custom}"])
@pytest.mark.parametrize("second", ["my-ollama", "{custom}"])
def test_a_provider_named_twice_is_refused_at_the_second_place(api, known, assert_refused, first, second):
    entries = resolved(["openai", first, second, "openai"], known)

    answer = api.post(URL, {"name": "n", "access": {"providers": {"allow": entries}}})

    details = assert_refused(answer, 422, "configuration_invalid")
    assert set(details) == {"access.providers.allow[2]", "access.providers.allow[3]"}
    assert "access.providers.allow[1]" in details["access.providers.allow[2]"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("openai:gpt-4o", "openai:gpt-4o"),
        ("openai:gpt-4o", "openai:GPT-4O"),
        ("openai:gpt-4o", "openai:openai/gpt-4o"),
        ("openai:OpenAI/GPT-4o", "openai:gpt-4o"),
        ("my-ollama:llama3.2", "{custom}:llama3.2"),
        ("my-ollama:my-ollama/llama3.2", "{custom}:Llama3.2"),
        ("meta-llama/Llama-3.3", "Meta-Llama/llama-3.3"),
        ("my-ollama/llama3.2", "{custom}/llama3.2"),
    ],
)
def test_a_model_named_twice_is_refused_at_the_second_place(api, known, assert_refused, first, second):
    entries = resolved([first, second], known)

    answer = api.post(URL, {"name": "n", "access": {"models": {"allow": entries}}})

    details = assert_refused(answer, 422, "configuration_invalid")
    assert set(details) == {"access.models.allow[1]"}
    assert "access.models.allow[0]" in details["access.models.allow[1]"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # The same name at two providers; a provider's model and an open ID, which may mean more than it.
        ("openai:gpt-4o", "openrouter:gpt-4o"),
        ("openai:gpt-4o", "openai/gpt-4o"),
        ("openrouter:openai/gpt-4o", "openai/gpt-4o"),
    ],
)
def test_models_that_may_differ_are_not_duplicates(api, known, first, second):
    answer = api.post(URL, {"name": "n", "access": {"models": {"allow": [first, second]}}})

    assert answer.status_code == 201


def test_a_stranger_s_custom_provider_is_unknown(other_api, known, assert_refused):
    access = {
        "providers": {"allow": ["my-ollama", known.custom]},
        "models": {"allow": ["my-ollama:a", f"{known.custom}:a", f"{known.custom}/a"]},
    }

    details = assert_refused(other_api.post(URL, {"name": "n", "access": access}), 422, "configuration_invalid")

    assert len(details) == 5
    assert not any("my-ollama" in sentence for sentence in details.values())


def test_an_entry_is_not_echoed(api, assert_refused):
    secret = "sk-proj-MARKED0123456789"
    access = {
        "providers": {"allow": [secret, {secret: secret}]},
        "models": {"allow": [secret, f"{secret}:x"], secret: 1},
    }

    answer = api.post(URL, {"name": "n", "access": access})

    assert len(assert_refused(answer, 422, "configuration_invalid")) == 5
    assert "MARKED" not in answer.content.decode()


def test_a_thousand_unknown_entries_are_refused_quickly_and_each(api, account, assert_refused):
    entries = [f"unknown-provider-{n}" for n in range(1000)]

    details = assert_refused(
        api.post(URL, {"name": "n", "access": {"providers": {"allow": entries}}}), 422, "configuration_invalid"
    )

    assert len(details) == 1000


def test_a_thousand_entries_are_taken(api):
    access = {"models": {"allow": [f"openai:model-{n}" for n in range(1000)]}}

    assert api.post(URL, {"name": "n", "access": access}).json()["access"] == access
