"""Limits as they are stored, and as the data plane reads them.

A stored limit has the members of the wire. Beside them it has `since`: when counting began, in microseconds since 1970.

Source: docs/decisions/0120-limits.md.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone

from gateway_core.limits.limit import Counts, Limit, Measure, Mode, Override, Period, identity, in_billionths

Stored = list[dict[str, Any]]


def amount_of(measure: str, written: Any) -> int:
    """An amount of the wire in the unit of the data plane."""
    return in_billionths(Decimal(written)) if measure == Measure.COST else int(written)


def limit_of(stored: dict[str, Any]) -> Limit:
    """A stored limit as a snapshot holds it."""
    measure = stored["measure"]
    counts = stored.get("counts")
    return Limit(
        measure=Measure(measure),
        amount=amount_of(measure, stored["amount"]),
        period=Period(stored.get("window", "")),
        time_zone=stored.get("timeZone", "UTC"),
        mode=Mode(stored.get("mode", Mode.ENFORCE)),
        counts=None
        if counts is None
        else Counts(
            providers=_names(counts.get("providers")),
            models=_names(counts.get("models")),
            key_sources=_names(counts.get("keySources")),
        ),
        overrides=tuple(
            Override(
                amount=amount_of(measure, one["amount"]), until=_microseconds(datetime.fromisoformat(one["until"]))
            )
            for one in stored.get("overrides", ())
        ),
        since=stored.get("since", 0),
    )


def limits_of(stored: Stored | None) -> tuple[Limit, ...]:
    """Stored limits as a snapshot holds them."""
    return tuple(map(limit_of, stored or ()))


def counted_since(new: Stored | None, before: Stored | None, *, is_new_owner: bool = False) -> Stored | None:
    """New limits with the moment at which counting begins: now, but for those that were counted before.

    Args:
        new: as the form returns them; None for none.
        before: what is stored; None for none.
        is_new_owner: whether their owner is made with them, so that nothing was used yet.
    """
    if new is None:
        return None
    now = 0 if is_new_owner else _microseconds(timezone.now())
    known = {identity(limit_of(one)): one.get("since", 0) for one in before or ()}
    return [{**one, "since": known.get(identity(limit_of(one)), now)} for one in new]


def shown(stored: Iterable[dict[str, Any]]) -> Stored:
    """Stored limits as the wire shows them, without what was used."""
    return [{name: value for name, value in one.items() if name != "since"} for one in stored]


def _names(names: Sequence[str] | None) -> Any:
    return None if names is None else tuple(names)


def _microseconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1_000_000)
