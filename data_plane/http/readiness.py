"""What `/readyz` of a worker says."""

from typing import Any

from data_plane.state.follower import Follower


def readiness(follower: Follower, *, staleness: float, is_draining: bool) -> tuple[bool, dict[str, Any]]:
    """Whether a worker can serve requests, and its state as `/readyz` shows it.

    Args:
        follower: what the worker holds.
        staleness: for how many seconds it serves while Redis is away.
        is_draining: it was asked to end.
    """
    stale = follower.stale_seconds
    has_catalog = follower.store.catalog.version > 0
    # Without the catalog every request is 503: a Redis that is full answers the tokens and not the catalog.
    is_ready = follower.is_usable and has_catalog and not is_draining
    return is_ready, {
        "status": "ok" if is_ready else "unavailable",
        "snapshot": {
            "isLoaded": stale is not None,
            "isInSync": follower.is_in_sync,
            "staleSeconds": None if stale is None else round(stale, 3),
            "stalenessLimitSeconds": staleness,
            "epoch": follower.store.epoch,
            "position": follower.store.position,
            "hasCatalog": has_catalog,
            "accounts": len(follower.store.accounts),
            "refusals": follower.store.refusals,
        },
        "isDraining": is_draining,
    }
