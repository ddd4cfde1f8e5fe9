"""Holds: gateway_core.failover

The documents list the same statuses.
"""

from pathlib import Path

import pytest

from data_plane.forwarding.outcomes import AttemptOutcome, outcome_of
from gateway_core.failover import FAILOVER_STATUSES, is_failover_status

DOCS = Path(__file__).resolve().parents[2] / "docs"
LISTED = [str(status) for status in sorted(FAILOVER_STATUSES)]


@pytest.mark.parametrize("status", range(300, 600))
def test_a_status_that_the_worker_takes_for_a_failed_attempt_is_one_that_a_keys_health_counts(status: int) -> None:
    # A redirect is an attempt without an answer: its event has no status.
    expected = outcome_of(status) is AttemptOutcome.FAILED and status >= 400

    assert is_failover_status(status) == expected


def test_an_attempt_without_an_answer_counts() -> None:
    assert is_failover_status(0)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("contract.md", f"a redirect, {', '.join(LISTED)} or 5xx"),
        ("data-plane-errors.md", f"(any 4xx except {', '.join(LISTED[:-1])} and {LISTED[-1]})"),
    ],
)
def test_the_documents_list_the_same_statuses(document: str, sentence: str) -> None:
    text = " ".join((DOCS / document).read_text().split())

    assert sentence in text
