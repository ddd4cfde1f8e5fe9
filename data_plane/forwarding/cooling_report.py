"""The keys that cool, as a worker's report and its metrics hold them."""

import time
from itertools import islice
from typing import Final

from data_plane.forwarding.cooling import Cooling
from gateway_core.usage_events import fit_name
from gateway_core.worker_reports import MOST_COOLING, MOST_COOLING_OF_AN_ACCOUNT, CoolingKey

_MICROSECONDS: Final = 1_000_000


def cooling_keys(cooling: Cooling) -> tuple[CoolingKey, ...]:
    """What is passed over now: at most 8 keys and models of an account, and 64 of all."""
    ahead = time.time() - cooling.clock()
    found = cooling.cooling(most_of_an_account=MOST_COOLING_OF_AN_ACCOUNT)
    return tuple(
        CoolingKey(
            account=account,
            provider=fit_name(place.provider),
            provider_key=place.provider_key,
            model=fit_name(place.model),
            cause=cooled.cause.value,
            since=int((cooled.since + ahead) * _MICROSECONDS),
            until=int((cooled.until + ahead) * _MICROSECONDS),
        )
        for account, place, cooled in islice(found, MOST_COOLING)
    )
