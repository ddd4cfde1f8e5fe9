"""Holds: data_plane.http.models

The list of models is made once for each state of the account, in slices, and kept within a bound of bytes.
"""

import asyncio
from typing import Any

import pytest

from data_plane.http.models import ModelLists
from data_plane.state.documents import Versioned
from data_plane.state.held import HeldAccount
from gateway_core.catalog import Catalog, Model, ModelsDocument
from gateway_core.snapshot import ProviderKeyDocument
from tests.workers import Client, SnapshotWriter, Tenant

CATALOG = Catalog(ModelsDocument(providers={"openai": tuple(Model(f"m{number}") for number in range(1_000))}))
KEY = Versioned(1, ProviderKeyDocument(provider="openai", mask="m", sealed=b""))


def account(name: str = "ac_a") -> HeldAccount:
    """An account with one key of openai."""
    held = HeldAccount(name)
    held.take(1, {"providerKey:1": KEY})
    return held


async def test_a_list_is_made_again_only_when_something_changed(monkeypatch: pytest.MonkeyPatch):
    lists, held = ModelLists(), account()
    first = await lists.whole(held, CATALOG, None)

    assert first.count(b'"id":"openai:m') == 1_000
    assert await lists.whole(held, CATALOG, None) is first
    held.take(2, {"providerKey:1": Versioned(2, None)})
    assert b"openai" not in await lists.whole(held, CATALOG, None)


async def test_others_get_their_turn_while_a_list_is_made():
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await ModelLists().whole(account(), CATALOG, None)
    counting.cancel()

    assert turns >= 10


async def test_lists_are_kept_within_a_bound_of_bytes():
    one: Any = await ModelLists().whole(account(), CATALOG, None)
    lists = ModelLists(kept_bytes=2 * len(one))
    accounts = [account(name) for name in ("ac_a", "ac_b", "ac_c")]
    made = [await lists.whole(held, CATALOG, None) for held in accounts]

    assert await lists.whole(accounts[2], CATALOG, None) is made[2]
    assert await lists.whole(accounts[1], CATALOG, None) is made[1]
    assert await lists.whole(accounts[0], CATALOG, None) is not made[0]


ANTHROPIC = {"anthropic-version": "2023-06-01"}
MANY = ModelsDocument(
    providers={
        "openai": (Model("gpt-4o"), Model("gpt-4o-2024-08-06"), Model("both")),
        "anthropic": (Model("claude-opus-4-20250514", name="Claude Opus 4"), Model("claude-3-haiku-20240307")),
        "groq": (Model("openai/gpt-oss-120b"), Model("both")),
    }
)


@pytest.fixture
def token(writer: SnapshotWriter, alice: Tenant) -> str:
    """An access key that reaches models of three providers."""
    writer.catalog(MANY)
    for provider in ("openai", "anthropic", "groq"):
        alice.keys(f"sk-{provider}-0123456789abcdefghij", provider=provider)
    return alice.token()


async def test_the_newest_are_first_where_dates_are_known_and_plain_names_last_where_they_mean_one_model(
    client: Client, token: str
):
    listed = (await client.get("/v1/models", token)).json()["data"]

    assert [one["id"] for one in listed] == [
        "anthropic:claude-opus-4-20250514",
        "openai:gpt-4o-2024-08-06",
        "anthropic:claude-3-haiku-20240307",
        "openai:gpt-4o",
        "openai:both",
        "groq:openai/gpt-oss-120b",
        "groq:both",
        "claude-opus-4-20250514",
        "gpt-4o-2024-08-06",
        "claude-3-haiku-20240307",
        "gpt-4o",
    ]
    assert listed[0]["created"] == 1_747_180_800
    assert listed[3]["created"] == 0


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o", "openai:gpt-4o"),
        ("GPT-4o", "openai:gpt-4o"),
        ("openai/gpt-4o", "openai:gpt-4o"),
        ("openai%2Fgpt-4o", "openai:gpt-4o"),
        ("openai%3Agpt-4o", "openai:gpt-4o"),
        ("gpt-4o-2024-11-20", "openai:gpt-4o-2024-11-20"),
        ("groq:openai/gpt-oss-120b", "groq:openai/gpt-oss-120b"),
        ("groq%3Aopenai%2Fgpt-oss-120b", "groq:openai/gpt-oss-120b"),
        ("anthropic/claude-3-haiku-20240307", "anthropic:claude-3-haiku-20240307"),
        ("both", "openai:both"),
        ("openai:gpt-4q", None),
        ("gpt-4q", None),
        ("nobody/gpt-4o", None),
    ],
)
async def test_a_model_is_found_by_every_name_that_a_request_may_have(
    client: Client, token: str, name: str, found: str | None
):
    for headers in ({}, ANTHROPIC):
        answer = await client.get(f"/v1/models/{name}", token, headers=headers)
        assert (answer.json().get("id"), answer.status) == (found, 200 if found else 404)


async def test_anthropics_callers_get_their_list_in_pages_either_way(client: Client, token: str):
    async def page(query: str) -> Any:
        answer = await client.get(f"/v1/models{query}", token, headers=ANTHROPIC)
        assert answer.status == 200
        return answer.json()

    whole = await page("?limit=1000")
    ids = [one["id"] for one in whole["data"]]
    forward = await page("?limit=4")
    second = await page(f"?limit=4&after_id={forward['last_id']}")
    third = await page(f"?limit=4&after_id={second['last_id']}")
    back = await page(f"?limit=2&before_id={second['first_id']}")

    assert whole["data"][0] == {
        "type": "model",
        "id": "anthropic:claude-opus-4-20250514",
        "display_name": "Claude Opus 4",
        "created_at": "2025-05-14T00:00:00Z",
    }
    assert whole["data"][3]["created_at"] == "1970-01-01T00:00:00Z"
    assert (whole["has_more"], whole["first_id"], whole["last_id"]) == (False, ids[0], ids[-1])
    walked = [one["id"] for part in (forward, second, third) for one in part["data"]]
    assert walked == ids
    assert [part["has_more"] for part in (forward, second, third)] == [True, True, False]
    assert ([one["id"] for one in back["data"]], back["has_more"]) == (ids[2:4], True)


async def test_an_access_key_that_reaches_nothing_has_an_empty_page(client: Client, charlie: Tenant):
    answer = await client.get("/v1/models", charlie.token(), headers=ANTHROPIC)

    assert answer.json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=%C2%B2", "after_id=nobody"])
async def test_a_page_that_is_none_is_refused_in_anthropics_form(client: Client, token: str, query: str):
    answer = await client.get(f"/v1/models?{query}", token, headers=ANTHROPIC)

    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")
