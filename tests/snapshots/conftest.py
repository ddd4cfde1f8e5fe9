"""What every test of the snapshot stands on: an account, and a Redis whose epoch is complete."""

from collections.abc import Iterator

import pytest

from accounts.models import Account
from snapshots import rebuild
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store
from tests.snapshots.rows import make_account


@pytest.fixture(autouse=True)
def _fresh_process(transactional_db: None) -> Iterator[None]:
    """As in a process that has just started: no pause, no connections."""
    pause.end()
    yield
    pause.end()
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


@pytest.fixture
def account() -> Account:
    """Alice's account."""
    return make_account()


@pytest.fixture
def _live(transactional_db: None) -> None:
    """A Redis that takes publications."""
    rebuild.rebuild(patient_store())
