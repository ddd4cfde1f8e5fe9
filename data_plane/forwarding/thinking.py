"""Budgets for thinking, within a cap on output tokens: lowered with it, or refused by name where no room is left.

Source: docs/decisions/0081-token-caps.md; the vendors' documentation of extended thinking.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import BodyTooDeep, MemberInvalid

# A longer member is not looked into.
_LONGEST: Final = 16 * 1024
# Values that ask for no thinking, or leave the budget to the model, which then keeps to the maximum.
_FREE: Final = (None, 0, -1)


class _Budget(NamedTuple):
    """Where a budget stands, and the least that its upstream takes."""

    path: tuple[str, ...]
    least: int = 1


_BUDGETS: Final = (
    # Anthropic and those that speak its format.
    _Budget(("thinking", "budget_tokens"), 1024),
    # Cohere.
    _Budget(("thinking", "token_budget")),
    # OpenRouter.
    _Budget(("reasoning", "max_tokens"), 1024),
    # Alibaba's DashScope and SiliconFlow; vLLM.
    _Budget(("thinking_budget",)),
    _Budget(("thinking_token_budget",)),
    # Gemini in OpenAI's format.
    _Budget(("extra_body", "google", "thinking_config", "thinking_budget")),
)
_MEMBERS: Final = frozenset(budget.path[0] for budget in _BUDGETS)


def check_budgets(members: Mapping[str, msgspec.Raw], each: int) -> None:
    """Refuse a budget for thinking that cannot be lowered below a cap.

    Args:
        members: a request's body.
        each: the output tokens that an answer may have.

    Raises:
        MemberInvalid: what is left is less than the upstream takes, or the member cannot be read.
    """
    for budget, _, value in _found(members):
        if not _is_within(value, each) and each - 1 < budget.least:
            name = ".".join(budget.path)
            raise MemberInvalid(
                f"The {each} output tokens that this answer may have leave no room for '{name}', which is at least "
                f"{budget.least}.",
                param=name,
            )


def lowered_budgets(members: Mapping[str, msgspec.Raw], each: int) -> dict[str, msgspec.Raw]:
    """The members to send instead of the request's own, so that each budget is below the cap.

    Args:
        members: as `check_budgets` let them pass.
        each: as there.
    """
    decoded: dict[str, Any] = {}
    for budget, holder, value in _found(members, decoded):
        if not _is_within(value, each):
            holder[budget.path[-1]] = each - 1
    # They are written again in any case: then no name stands in them twice.
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in decoded.items()}


def _found(
    members: Mapping[str, msgspec.Raw], decoded: dict[str, Any] | None = None
) -> Iterator[tuple[_Budget, dict[str, Any], Any]]:
    """Each budget of a request with the object that holds it, and its value.

    Args:
        decoded: takes the decoded members that hold one.
    """
    if _MEMBERS.isdisjoint(members):
        return
    read: dict[str, Any] = {}
    for budget in _BUDGETS:
        top = budget.path[0]
        if top not in members:
            continue
        if top not in read:
            read[top] = _decoded(top, members[top])
        holder: Any = read
        for name in budget.path[:-1]:
            holder = holder.get(name) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or budget.path[-1] not in holder or holder.get("type") == "disabled":
            continue
        yield budget, holder, holder[budget.path[-1]]
        if decoded is not None:
            decoded[top] = read[top]


def _decoded(name: str, value: msgspec.Raw) -> Any:
    if len(memoryview(value)) > _LONGEST:
        raise MemberInvalid(f"'{name}' is longer than {_LONGEST} bytes.", param=name)
    try:
        return msgspec.json.decode(value)
    except RecursionError:
        raise BodyTooDeep from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MemberInvalid(f"'{name}' is not well formed.", param=name) from None


def _is_within(value: object, each: int) -> bool:
    return (not isinstance(value, bool) and value in _FREE) or (type(value) is int and 0 < value < each)
