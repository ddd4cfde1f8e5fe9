"""Holds: data_plane.forwarding.budget

Requests and bytes in flight are bounded by worker, account and access key, and come back.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.errors import BodiesInFlight, GatewayError, RequestsInFlight, WorkerFull
from data_plane.forwarding.budget import Budget, Share
from data_plane.settings import RequestLimits

LIMITS = RequestLimits(
    requests=6,
    requests_per_account=4,
    requests_per_key=2,
    body_bytes=60,
    body_bytes_per_account=40,
    body_bytes_per_key=20,
)


def filled(*owners: tuple[str, str], length: int = 0) -> Budget:
    """A budget with a request of each (account, access key)."""
    budget = Budget(LIMITS)
    for owner in owners:
        budget.enter(*owner).hold(length)
    return budget


@pytest.mark.parametrize(
    ("owners", "error", "said"),
    [
        ([("a", "k")] * 2, RequestsInFlight, "access key has 2"),
        ([("a", "1"), ("a", "1"), ("a", "2"), ("a", "2")], RequestsInFlight, "account has 4"),
        ([("b", "1"), ("b", "2"), ("b", "3"), ("c", "4"), ("c", "5"), ("c", "6")], WorkerFull, "as many requests"),
    ],
)
def test_one_more_request_than_the_bound_is_refused(
    owners: list[tuple[str, str]], error: type[GatewayError], said: str
):
    budget = filled(*owners)

    with pytest.raises(error, match=said) as refusal:
        budget.enter("a", "k")

    assert refusal.value.retry_after == 1
    assert budget.worker.requests == len(owners)


@pytest.mark.parametrize(
    ("owners", "error"),
    [
        ([("a", "k")], BodiesInFlight),
        ([("a", "1"), ("a", "2"), ("a", "3")], BodiesInFlight),
        ([("b", "1"), ("b", "2"), ("c", "3"), ("c", "4")], WorkerFull),
    ],
)
def test_more_bytes_than_the_bound_are_refused(owners: list[tuple[str, str]], error: type[GatewayError]):
    budget = filled(*owners, length=13)
    share = budget.enter("a", "k")

    with pytest.raises(error):
        share.hold(9)
    share.leave()

    assert budget.worker.body_bytes == 13 * len(owners)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123"), st.integers(0, 30), st.booleans()), max_size=40)
)
def test_whatever_comes_and_goes_nothing_passes_a_bound_and_all_comes_back(
    steps: list[tuple[str, str, int, bool]],
):
    budget = Budget(LIMITS)
    shares: list[Share] = []
    for account, key, length, leaves in steps:
        try:
            share = budget.enter(account, account + key)
            shares.append(share)
            share.hold(length)
        except (RequestsInFlight, BodiesInFlight, WorkerFull):
            pass
        assert budget.worker.requests <= LIMITS.requests
        assert budget.worker.body_bytes <= LIMITS.body_bytes
        assert all(spent.requests <= LIMITS.requests_per_account for spent in budget.accounts.values())
        assert all(spent.body_bytes <= LIMITS.body_bytes_per_account for spent in budget.accounts.values())
        assert all(spent.requests <= LIMITS.requests_per_key for spent in budget.access_keys.values())
        assert all(spent.body_bytes <= LIMITS.body_bytes_per_key for spent in budget.access_keys.values())
        if leaves and shares:
            shares.pop().leave()
    for share in shares:
        share.leave()

    assert (budget.worker.requests, budget.worker.body_bytes) == (0, 0)
    assert not budget.accounts
    assert not budget.access_keys
