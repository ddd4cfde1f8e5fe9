"""Holds: data_plane

The packages of OpenAI and Anthropic for Node, and Vercel's AI SDK, given a base URL and an access key and nothing else.
One process walks them all through their cases (`walk.mjs`). `make test-clients` installs them and runs these tests.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.field import KEY, field, gave
from tests.clients.upstream import OUTPUT_TOKENS, REASON, TEXT, Upstream

pytestmark = pytest.mark.xdist_group("node_packages")

HERE: Final = str(Path(__file__).parent)
WALK: Final = Path(HERE) / "walk.mjs"
VENDORS: Final = ("NotFoundError", "AuthenticationError", "BadRequestError", "APIError")
# The class for a model that is not allowed, for a key that is not known, for a refusal, for a stream that was cut.
CLIENTS: Final = {
    "openai, chat": VENDORS,
    "openai, responses": ("BadRequestError", *VENDORS[1:]),
    "anthropic": VENDORS,
    "vercel, chat": ("APICallError", "APICallError", "APICallError", "StreamProviderError"),
    "vercel, responses": ("APICallError", "APICallError", "APICallError", "StreamProviderError"),
    "vercel, messages": ("APICallError", "APICallError", "APICallError", "StreamProviderError"),
}
REASONS: Final = {
    "not allowed": "configuration does not allow the model",
    "unknown key": "This access key does not exist, or was deleted.",
    "refused": REASON,
    "cut": "The upstream ended its answer before it was complete.",
}


@pytest.fixture(scope="module")
def walked(sealing_private_key: str) -> tuple[dict[tuple[str, str], Any], Upstream]:
    """What came of every case of every client, and what the upstream received."""

    async def walk() -> tuple[dict[tuple[str, str], Any], Upstream]:
        async with field(sealing_private_key) as found:
            ran = await found.run("node", WALK)
            lines = ran.lines()
            # Packages are looked for beside the working directory.
            [snippet] = found.documented("js")
            lines["docs/clients.md", "js"] = (
                await found.run("node", "--input-type=module", "-e", snippet, HOME=HERE)
            )._asdict()
            [curl] = [one for one in found.documented("sh") if one.startswith("curl")]
            lines["docs/clients.md", "curl"] = (await found.run("sh", "-c", curl))._asdict()
            return lines, found.upstream

    return asyncio.run(walk())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_node_package_gets_its_answer_its_stream_and_its_tool(client, walked):
    lines, _ = walked
    pieces = gave(lines, client, "stream")

    assert gave(lines, client, "ask") == [TEXT, OUTPUT_TOKENS]
    assert "".join(pieces) == TEXT
    assert len(pieces) > 1
    assert gave(lines, client, "tools") == [{"city": "Oslo"}, "The tool says: 7 degrees in Oslo"]


@pytest.mark.parametrize(("client", "kinds"), CLIENTS.items())
def test_a_node_package_throws_the_class_that_its_users_expect_with_the_reason(client, kinds, walked):
    for (case, reason), kind in zip(REASONS.items(), kinds, strict=True):
        line = walked[0][client, case]

        assert kind in line["raised"], line
        assert reason in line["text"]
        assert case == "cut" or not line.get("retryable")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_node_package_asks_again_after_429_and_gets_its_answer(client, walked):
    lines, upstream = walked

    assert gave(lines, client, "retry") == [TEXT, OUTPUT_TOKENS]
    assert len(upstream.asked(f'"{client}: be busy once')) == 2
    assert {one.key for one in upstream.received} == {KEY}


def test_the_snippets_of_the_documentation_work_as_they_stand(walked):
    lines, _ = walked

    assert lines["docs/clients.md", "js"]["output"].strip() == TEXT, lines["docs/clients.md", "js"]
    assert TEXT in lines["docs/clients.md", "curl"]["output"], lines["docs/clients.md", "curl"]
