"""Ingest: each event counts once, and only what a worker really told."""

from accounts.models import Account
from tests.events import an_event
from tests.usage.conftest import Emit
from usage.models import Event, Rollup


def test_an_event_arrives_with_its_cost(account: Account, emit: Emit) -> None:
    event = an_event(account)

    assert emit([event]) == 1

    row = Event.objects.get()
    assert row.text_id == event.id
    assert str(row.cost) == "0.003500000000"
    assert Rollup.objects.count() == 4
