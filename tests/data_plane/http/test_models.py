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
