"""Holds: snapshots.lease

One process at a time holds a lease. It is renewed while it is held, and lapses when its process is gone.
"""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from snapshots.lease import leased
from snapshots.models import Lease
from tests.patience import wait_until
from tests.rivals import in_background

pytestmark = pytest.mark.django_db(transaction=True)


def _try() -> bool:
    with leased("work") as is_ours:
        return is_ours


def test_only_one_process_holds_a_lease_and_gives_it_back():
    with leased("work") as is_ours:
        rival = in_background(_try).result()
        with leased("other work") as is_other_ours:
            pass

    assert (is_ours, rival, is_other_ours) == (True, False, True)
    assert _try()
    assert not Lease.objects.exists()


def test_a_lease_is_given_back_when_the_work_fails():
    with pytest.raises(ZeroDivisionError), leased("work"):
        raise ZeroDivisionError

    assert _try()


def test_a_lease_is_renewed_while_it_is_held():
    with leased("work", seconds=0.3):
        first = Lease.objects.get().expires_at
        wait_until(lambda: Lease.objects.get().expires_at > first + timedelta(seconds=0.3), what="it is renewed")

        assert not in_background(_try).result()


def test_a_lease_that_nobody_renews_lapses():
    with leased("work"):
        Lease.objects.update(expires_at=Now() - timedelta(seconds=1))

        assert _try()


def test_a_holder_that_lost_its_lease_leaves_the_next_ones_alone():
    with leased("work"):
        Lease.objects.update(expires_at=Now() - timedelta(seconds=1))
        next_one = leased("work")
        assert next_one.__enter__()

    assert Lease.objects.count() == 1
    next_one.__exit__(None, None, None)
    assert not Lease.objects.exists()
