"""Holds: data_plane.forwarding.kept_upstream

A response that an upstream keeps is found at the key that made it, whichever of the plan's keys that is.
"""

import json
from typing import Any

import pytest

from data_plane.forwarding.kept_upstream import is_not_kept
from gateway_core.catalog import Surface
from gateway_core.dialects.error_texts import error_text
from gateway_core.snapshot import SurfaceSupport
from tests.scripted_upstream import answer, scripted
from tests.workers import Answer, Client, Tenant

FIRST, SECOND, THIRD = "first-key-0123456789", "second-key-0123456789", "third-key-0123456789"
GOOD_RESPONSE = answer(b'{"object":"response","output":[{"type":"message","content":[]}]}')


def unknown(message: str, code: str | None, status: int = 400) -> bytes:
    """A refusal of what goes on from an unknown response."""
    error = {"message": message, "type": "invalid_request_error", "param": "previous_response_id", "code": code}
    return answer(json.dumps({"error": error}).encode(), status)


# As OpenAI, xAI, Azure, LM Studio and open servers write it.
OPENAI = unknown("Previous response with id 'resp_1' not found.", "previous_response_not_found")
UNKNOWN = {
    "OpenAI": OPENAI,
    "by its code alone": unknown("Invalid.", "previous_response_not_found"),
    "by its text alone": unknown("Response with id 'resp_1' not found.", None, 404),
    "a conversation": unknown("Conversation with id 'conv_1' not found.", None, 404),
    "a proxy": unknown("The response 'resp_1' does not exist or has expired.", None, 404),
}


async def ask(client: Client, alice: Tenant, scripts: dict[str, bytes], **members: Any) -> tuple[Answer, list[str]]:
    """The answer to a request that goes on from a response, and the keys that were asked."""
    async with scripted({key: [one] for key, one in scripts.items()}) as upstream:
        alice.provider("mine", upstream.url, *map(SurfaceSupport, Surface))
        body = {"model": "mine:m", "input": "Hi"} | members
        token = alice.routed(*scripts, provider="mine")
        return await client.request("POST", "/v1/responses", token, json=body), upstream.keys


@pytest.mark.parametrize("said", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_the_next_key_is_asked_where_one_does_not_know_the_response(client: Client, alice: Tenant, said: bytes):
    scripts = {FIRST: said, SECOND: said, THIRD: GOOD_RESPONSE}
    found, asked = await ask(client, alice, scripts, previous_response_id="resp_1")

    assert found.status == 200
    assert found.headers["gateway-attempts"] == "3"
    assert asked == [FIRST, SECOND, THIRD]


async def test_the_upstreams_own_words_are_the_answer_where_no_key_knows_it(client: Client, alice: Tenant):
    found, asked = await ask(client, alice, {FIRST: OPENAI, SECOND: OPENAI}, previous_response_id="resp_1")

    assert (found.status, found.code) == (400, "previous_response_not_found")
    assert asked == [FIRST, SECOND]


async def test_a_busy_key_that_may_have_made_it_is_what_the_caller_reads_of(client: Client, alice: Tenant):
    busy = answer(b'{"error":{"message":"Slow down."}}', 429, retry_after="7")
    found, _ = await ask(client, alice, {FIRST: busy, SECOND: OPENAI}, previous_response_id="resp_1")

    assert (found.status, found.code) == (502, "attempts_failed")
    assert "Slow down." in found.json()["error"]["message"]
    assert found.headers["retry-after"] == "7"


@pytest.mark.parametrize("members", [{}, {"previous_response_id": None}, {"conversation": None}])
async def test_a_refusal_of_another_request_ends_it(client: Client, alice: Tenant, members: dict[str, Any]):
    found, asked = await ask(client, alice, {FIRST: OPENAI, SECOND: GOOD_RESPONSE}, **members)

    assert found.status == 400
    assert asked == [FIRST]


async def test_another_refusal_of_such_a_request_ends_it(client: Client, alice: Tenant):
    said = unknown("The input is too long.", "context_length_exceeded")
    found, asked = await ask(client, alice, {FIRST: said, SECOND: GOOD_RESPONSE}, previous_response_id="resp_1")

    assert (found.status, found.code) == (400, "context_length_exceeded")
    assert asked == [FIRST]


@pytest.mark.parametrize("message", ["The model was not found.", "No response. The file was not found.", ""])
def test_what_is_not_there_may_be_something_else(message: str):
    assert not is_not_kept(error_text({"error": {"message": message}}))


async def test_the_callers_organization_never_goes_with_a_stored_key(client: Client, alice: Tenant, upstream: Any):
    chosen = {"openai-organization": "org-mine", "openai-project": "proj-mine", "openai-beta": "assistants=v2"}
    alice.keys(FIRST)
    alice.provider("keyless", f"{upstream.url}")

    await client.chat(alice.token(), headers=chosen)
    await client.chat(alice.token(), "keyless:m", headers=chosen)

    names = [{name.lower() for name in call.headers} & set(chosen) for call in upstream.calls]
    assert names == [{"openai-beta"}, set(chosen)]
