"""Holds: data_plane.forwarding.thinking, data_plane.forwarding.limits

A cap on output tokens lowers a budget for thinking with it, or the request is refused by the budget's name.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.errors import MemberInvalid
from data_plane.forwarding.thinking import check_budgets, lowered_budgets
from gateway_core.catalog import Surface
from gateway_core.snapshot import SurfaceSupport
from local.stand_in import StandIn
from tests.workers import Client, Tenant

KEY = "sk-own-0123456789abcdefghijkl"


def members(**given: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()}


def google(budget: Any) -> dict[str, Any]:
    return {"extra_body": {"google": {"thinking_config": {"thinking_budget": budget, "include_thoughts": True}}}}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (
            {"thinking": {"type": "enabled", "budget_tokens": 8000}},
            {"thinking": {"type": "enabled", "budget_tokens": 1999}},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"thinking": {"type": "enabled", "budget_tokens": 1999}},
        ),
        ({"thinking": {"token_budget": 9000}}, {"thinking": {"token_budget": 1999}}),
        ({"reasoning": {"max_tokens": 5000, "exclude": True}}, {"reasoning": {"max_tokens": 1999, "exclude": True}}),
        ({"thinking_budget": 38912, "enable_thinking": True}, {"thinking_budget": 1999, "enable_thinking": True}),
        ({"thinking_token_budget": 3000}, {"thinking_token_budget": 1999}),
        (google(24576), google(1999)),
        # What an upstream might read as a number.
        ({"thinking_budget": "9000"}, {"thinking_budget": 1999}),
        ({"thinking_budget": 9e9}, {"thinking_budget": 1999}),
        ({"thinking_budget": -7}, {"thinking_budget": 1999}),
        ({"thinking_budget": True}, {"thinking_budget": 1999}),
        # Within the cap, or no budget.
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1999}},
            {"thinking": {"type": "enabled", "budget_tokens": 1999}},
        ),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        (
            {"thinking": {"type": "disabled", "budget_tokens": 9000}},
            {"thinking": {"type": "disabled", "budget_tokens": 9000}},
        ),
        ({"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        (google(-1), google(-1)),
        (google(0), google(0)),
        ({"thinking_budget": None}, {"thinking_budget": None}),
        ({"thinking": "on", "reasoning": [1]}, {"thinking": "on", "reasoning": [1]}),
    ],
)
def test_a_budget_is_lowered_below_the_cap_wherever_it_stands(asked: dict[str, Any], sent: dict[str, Any]):
    given_members = members(**asked)

    check_budgets(given_members, 2000)
    lowered = lowered_budgets(given_members, 2000)

    assert {name: msgspec.json.decode(value) for name, value in (given_members | lowered).items()} == sent


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"reasoning": {"max_tokens": 4096}}, "reasoning.max_tokens"),
    ],
)
def test_a_budget_that_cannot_be_so_low_is_refused_by_its_name(asked: dict[str, Any], param: str):
    with pytest.raises(MemberInvalid) as refusal:
        check_budgets(members(**asked), 1024)

    assert refusal.value.param == param
    assert f"'{param}'" in refusal.value.message
    assert "1024" in refusal.value.message


@pytest.mark.parametrize("value", [b"{", b'{"a":', b"[" * 5000 + b"]" * 5000, b'{"a":"' + b"x" * 20_000 + b'"}'])
def test_a_member_that_cannot_be_looked_into_is_refused(value: bytes):
    with pytest.raises(Exception, match=r".") as refusal:
        check_budgets({"thinking": msgspec.Raw(value)}, 5000)

    assert getattr(refusal.value, "status", 0) == 400


def test_a_name_that_stands_there_twice_is_sent_once():
    twice = {"thinking": msgspec.Raw(b'{"type":"enabled","budget_tokens":9000,"budget_tokens":1500}')}

    (sent,) = lowered_budgets(twice, 2000).values()

    assert bytes(sent).count(b"budget_tokens") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["budget_tokens", "token_budget", "max_tokens", "type", "google", "thinking_config"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(
    asked=st.dictionaries(
        st.sampled_from(["thinking", "reasoning", "thinking_budget", "extra_body"]), JSON, max_size=3
    ),
    each=st.integers(1, 3000),
)
def test_whatever_is_asked_no_number_at_a_budgets_place_is_above_the_cap(asked: dict[str, Any], each: int):
    given_members = members(**asked)
    try:
        check_budgets(given_members, each)
    except MemberInvalid:
        return
    sent = given_members | lowered_budgets(given_members, each)

    thinking = msgspec.json.decode(sent.get("thinking", b"null"))
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(thinking, dict) and thinking.get("type") != "disabled":
        assert budget is None or budget in {0, -1} or budget < each


async def test_the_cap_of_the_account_goes_to_the_upstream_with_its_budget(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.settings(max_output_tokens=3000)
    token = alice.routed(KEY, provider="anthropic")
    thinking = {"type": "enabled", "budget_tokens": 16_000}

    answer = await client.message(token, max_tokens=20_000, thinking=thinking)
    refused = await client.message(token, max_tokens=20_000, thinking=thinking, n=3)

    assert answer.status == 200
    assert upstream.calls[0].body["max_tokens"] == 3000
    assert upstream.calls[0].body["thinking"] == {"type": "enabled", "budget_tokens": 2999}
    assert (refused.status, refused.headers["gateway-error"]) == (400, "member_invalid")
    assert len(upstream.calls) == 1


async def test_without_a_cap_a_budget_goes_as_it_came(client: Client, alice: Tenant, upstream: StandIn):
    thinking = {"type": "enabled", "budget_tokens": 16_000}

    await client.message(alice.routed(KEY, provider="anthropic"), max_tokens=20_000, thinking=thinking)

    assert upstream.calls[0].body["thinking"] == thinking


async def test_a_budget_that_a_custom_provider_does_not_take_is_not_sent(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.settings(max_output_tokens=3000)
    alice.provider("own", upstream.url, SurfaceSupport(Surface.MESSAGES, ("max_tokens",)))

    answer = await client.message(alice.token(), "own:m", thinking={"type": "enabled", "budget_tokens": 16_000})

    assert "thinking" not in upstream.calls[0].body
    assert answer.headers["gateway-removed-params"] == "thinking"
