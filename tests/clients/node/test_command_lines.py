"""Holds: data_plane

The command lines of Claude Code and Codex, set up as docs/clients.md says, their telemetry off.
`make test-clients` installs them and runs these tests.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.clients.field import KEY, Field, Ran, field
from tests.clients.upstream import TEXT, Received

pytestmark = pytest.mark.xdist_group("command_lines")

MODULES: Final = Path(__file__).parent / "node_modules"
# Packages are installed without their scripts: Claude Code's would put its program here.
CLAUDE: Final = ("node", MODULES / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs")
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}
# Behind the documented configuration.
QUIET_CODEX: Final = "\n[analytics]\nenabled = false\n"
COMMAND: Final = "echo from-the-$((20+3))"
NOT_ALLOWED: Final = "This access key's configuration does not allow the model openai:gpt-4o."
NOT_KNOWN: Final = "401 This access key does not exist, or was deleted."


class Asked(NamedTuple):
    """What a command line left behind, and what of it came to the upstream."""

    ran: Ran
    received: list[Received]

    @property
    def said(self) -> list[Any]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.ran.output.splitlines()]


async def _claude(found: Field, home: Path, prompt: str, token: str) -> Asked:
    before = len(found.upstream.received)
    options = ("--model", "claude-sonnet-4-5", "--allowedTools", "Bash", "--output-format", "stream-json", "--verbose")
    [snippet] = [one for one in found.documented("sh") if "ANTHROPIC" in one]
    documented = dict(re.findall(r"^export (\w+)=(\S+)$", snippet, re.MULTILINE))
    assert documented.pop("ANTHROPIC_AUTH_TOKEN") == found.token
    ran = await found.run(
        *(*CLAUDE, "-p", prompt, *options, "--include-partial-messages"),
        HOME=str(home),
        ANTHROPIC_AUTH_TOKEN=token,
        **documented,
        **QUIET,
    )
    return Asked(ran, found.upstream.received[before:])


async def _codex(found: Field, home: Path, prompt: str, token: str) -> Asked:
    [configuration] = found.documented("toml")
    (home / "config.toml").write_text(configuration + QUIET_CODEX)
    before = len(found.upstream.received)
    ran = await found.run(
        *(
            MODULES / ".bin" / "codex",
            "exec",
            "--skip-git-repo-check",
            "--json",
            "--sandbox",
            "danger-full-access",
            prompt,
        ),
        HOME=str(home),
        CODEX_HOME=str(home),
        GATEWAY_KEY=token,
    )
    return Asked(ran, found.upstream.received[before:])


@pytest.fixture(scope="module")
def asked(sealing_private_key: str, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Asked]:
    """What came of each prompt, by command line and case."""

    async def ask() -> dict[tuple[str, str], Asked]:
        made: dict[tuple[str, str], Asked] = {}
        async with field(sealing_private_key) as found:
            shown = found.environ
            tools = {
                "claude": f'use the tool Bash with {{"command": "{COMMAND}", "description": "Say it"}}',
                "codex": f'use the tool exec_command with {{"cmd": "{COMMAND}"}}',
            }
            for name, run in (("claude", _claude), ("codex", _codex)):
                home = tmp_path_factory.mktemp(name)
                made[name, "ask"] = await run(found, home, "Hi", found.token)
                made[name, "tool"] = await run(found, home, tools[name], found.token)
                made[name, "retry"] = await run(found, home, f"{name}, be busy once", found.token)
                made[name, "not allowed"] = await run(found, home, "Hi", shown["GATEWAY_SCOPED_TOKEN"])
                made[name, "unknown key"] = await run(found, home, "Hi", shown["GATEWAY_UNKNOWN_TOKEN"])
        return made

    return asyncio.run(ask())


def _agents(one: Asked) -> str:
    """What Codex's model said last."""
    texts = [line["item"].get("text") for line in one.said if line["type"] == "item.completed"]
    return str(next(text for text in reversed(texts) if text))


def test_claude_code_streams_its_answer(asked):
    one = asked["claude", "ask"]
    deltas = [line["event"].get("delta", {}).get("text") for line in one.said if line["type"] == "stream_event"]

    assert one.said[-1]["result"] == TEXT, one.ran
    assert "".join(filter(None, deltas)) == TEXT
    assert {call.key for call in one.received} == {KEY}


def test_claude_code_runs_a_tool_and_gets_the_answer_to_its_result(asked):
    one = asked["claude", "tool"]

    assert one.said[-1]["result"].startswith("The tool says: from-the-23"), one.ran
    assert len(one.received) == 2


def test_claude_code_asks_again_after_429(asked):
    one = asked["claude", "retry"]

    assert one.said[-1]["result"] == TEXT, one.ran
    assert len(one.received) == 2


def test_claude_code_shows_at_once_what_cannot_be_mended(asked):
    model, key = asked["claude", "not allowed"], asked["claude", "unknown key"]

    assert model.said[-1]["api_error_status"] == 404
    assert "issue with the selected model" in model.said[-1]["result"]
    assert NOT_KNOWN in key.said[-1]["result"]
    assert not model.received + key.received


def test_codex_gets_its_answer(asked):
    one = asked["codex", "ask"]

    assert _agents(one) == TEXT, one.ran
    assert one.said[-1]["usage"]["output_tokens"] == 7
    assert {call.key for call in one.received} == {KEY}


def test_codex_runs_a_tool_and_gets_the_answer_to_its_result(asked):
    one = asked["codex", "tool"]

    assert "from-the-23" in _agents(one), one.ran
    assert len(one.received) == 2


def test_codex_asks_again_after_429(asked):
    one = asked["codex", "retry"]

    assert _agents(one) == TEXT, one.ran
    assert len(one.received) == 2


def test_codex_shows_the_reason_of_a_refusal(asked):
    model, key = asked["codex", "not allowed"], asked["codex", "unknown key"]

    # On a 400 it stops at once; on a 401 it asks six times, whatever the answer's headers say.
    assert [line["type"] for line in model.said].count("error") == 1
    assert NOT_ALLOWED in model.said[-1]["error"]["message"]
    assert "This access key does not exist, or was deleted." in key.said[-1]["error"]["message"]
    assert not model.received + key.received
