"""Holds: data_plane

Python packages that nobody here wrote, in their newest versions, given a base URL and an access key and nothing else.
One process walks them all through their cases (`python/walk.py`); each test looks at what came of one.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.field import KEY, field, gave
from tests.clients.upstream import INPUT_TOKENS, OUTPUT_TOKENS, REASON, SOUND, TEXT, Upstream
from tests.workers import ROOT

# One process of the run walks the packages, and none does it twice.
pytestmark = pytest.mark.xdist_group("python_packages")

PYTHON: Final = ROOT / ".venv" / "clients" / "bin" / "python"
WALK: Final = Path(__file__).parent / "python" / "walk.py"
PACKAGES: Final = ("of_openai", "of_anthropic", "of_langchain", "of_litellm", "of_pydantic_ai")
NOT_ALLOWED: Final = "configuration does not allow the model"
UNKNOWN: Final = "This access key does not exist, or was deleted."
# The class that users of a client catch when a model is not there for them, and the one for a key that is not known.
CLIENTS: Final = {
    "openai, chat": ("openai.NotFoundError", "openai.AuthenticationError", "openai.BadRequestError"),
    "openai, responses": ("openai.BadRequestError", "openai.AuthenticationError", "openai.BadRequestError"),
    "anthropic": ("anthropic.NotFoundError", "anthropic.AuthenticationError", "anthropic.BadRequestError"),
    "langchain-openai, chat": ("openai.NotFoundError", "openai.AuthenticationError", "openai.BadRequestError"),
    "langchain-openai, responses": ("openai.BadRequestError", "openai.AuthenticationError", "openai.BadRequestError"),
    "langchain-anthropic": ("anthropic.NotFoundError", "anthropic.AuthenticationError", "anthropic.BadRequestError"),
    "litellm, openai": ("litellm.NotFoundError", "litellm.AuthenticationError", "litellm.BadRequestError"),
    "litellm, anthropic": ("litellm.NotFoundError", "litellm.AuthenticationError", "litellm.BadRequestError"),
    "pydantic-ai, OpenAIChatModel": ("pydantic_ai.ModelHTTPError",) * 3,
    "pydantic-ai, OpenAIResponsesModel": ("pydantic_ai.ModelHTTPError",) * 3,
    "pydantic-ai, AnthropicModel": ("pydantic_ai.ModelHTTPError",) * 3,
}


@pytest.fixture(scope="module")
def walked(sealing_private_key: str) -> tuple[dict[tuple[str, str], Any], Upstream]:
    """What came of every case of every client, and what the upstream received."""

    async def walk() -> tuple[dict[tuple[str, str], Any], Upstream]:
        async with field(sealing_private_key) as found:
            ran = await found.run(PYTHON, WALK, *PACKAGES, given=json.dumps(found.documented("python")))
            return ran.lines(), found.upstream

    assert PYTHON.exists(), "`make .venv/.clients` installs the packages"
    return asyncio.run(walk())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_package_gets_its_answer_with_its_usage(client, walked):
    assert gave(walked[0], client, "ask") == [TEXT, OUTPUT_TOKENS]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_package_gets_its_stream_in_pieces(client, walked):
    pieces = gave(walked[0], client, "stream")

    assert "".join(pieces) == TEXT
    assert len(pieces) > 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_package_calls_a_tool_and_gets_the_answer_to_its_result(client, walked):
    arguments, text = gave(walked[0], client, "tools")

    assert arguments == {"city": "Oslo"}
    assert text == "The tool says: 7 degrees in Oslo"


@pytest.mark.parametrize(("client", "kinds"), CLIENTS.items())
def test_a_package_raises_the_class_that_its_users_expect_with_the_reason(client, kinds, walked):
    reasons = {"not allowed": NOT_ALLOWED, "unknown key": UNKNOWN, "refused": REASON}
    for (case, reason), kind in zip(reasons.items(), kinds, strict=True):
        line = walked[0][client, case]

        assert kind in line["raised"], line
        assert reason in line["text"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_package_asks_again_after_429_and_gets_its_answer(client, walked):
    lines, upstream = walked

    assert gave(lines, client, "retry") == [TEXT, OUTPUT_TOKENS]
    assert len(upstream.asked(f'"{client}: be busy once')) == 2


@pytest.mark.parametrize(("client", "kind"), {one: kinds[2] for one, kinds in list(CLIENTS.items())[:3]}.items())
def test_a_vendors_package_raises_on_a_stream_that_was_cut(client, kind, walked):
    line = walked[0][client, "cut"]

    assert f"{kind.partition('.')[0]}.APIError" in line["raised"], line
    assert "before it was complete" in line["text"]


def test_the_vendors_packages_get_the_other_things_that_they_ask_for(walked):
    lines, _ = walked
    of_openai, of_anthropic = gave(lines, "of_openai", "more"), gave(lines, "of_anthropic", "more")

    assert of_openai["embedding"] == [0.5, 0.25]
    assert (of_openai["picture"], of_openai["sound"], of_openai["text"]) == ("aGk=", len(SOUND), TEXT)
    assert (of_openai["flagged"], of_openai["file"], of_openai["files"]) == (False, "file-tests", ["file-tests"])
    assert of_openai["response"] == TEXT
    assert of_openai["models"][:2] == ["openai:gpt-4o", "openai:gpt-4o-mini"]
    assert of_anthropic["models"] == of_openai["models"]
    assert of_anthropic["tokens"] == gave(lines, "of_langchain", "more")["tokens"] == INPUT_TOKENS


def test_the_snippets_of_the_documentation_work_as_they_stand(walked):
    lines, _ = walked
    said = {case: gave(lines, client, case) for client, case in lines if client == "docs/clients.md"}

    assert len(said) == 6
    assert all(one == [TEXT] for one in said.values()), said


def test_the_upstream_sees_its_own_key_and_never_the_access_key(walked):
    _, upstream = walked

    assert {one.key for one in upstream.received} == {KEY}
