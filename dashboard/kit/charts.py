"""Charts as SVG, drawn on the server: stacked bars over time, each with its value in words.

A chart needs no script and no inline style: the place of a bar is in its attributes, its colour is a class
(`dashboard.css`, `.series-0` … ), and its text is its `<title>`. Below every chart stands a table with the same
numbers, for screen readers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

Number = int | Decimal

# In units of the SVG's view box; the page scales the drawing.
WIDTH: Final = 600
HEIGHT: Final = 160
_GAP: Final = 0.22
# A bar with a small value is drawn at least this high, so that it can be seen.
_LEAST_HEIGHT: Final = 1.5


class Series(NamedTuple):
    """One group of a chart, with its colour."""

    label: str
    # From 0; the CSS class is `.series-<place>`.
    place: int


class Bar(NamedTuple):
    """A part of a stacked bar."""

    x: float
    y: float
    width: float
    height: float
    place: int
    title: str


class Row(NamedTuple):
    """One row of a chart's table: a time, its values by series, and their sum, all as texts."""

    when: str
    values: tuple[str, ...]
    total: str


@dataclass(frozen=True)
class Chart:
    """A chart that a template can draw."""

    title: str
    total: str
    # The text of the value at the upper edge.
    highest: str
    bars: tuple[Bar, ...]
    rows: tuple[Row, ...]
    series: tuple[Series, ...]
    first: str
    last: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars


def stacked(
    title: str,
    *,
    times: Sequence[datetime],
    label_time: Callable[[datetime], str],
    series: Sequence[Series],
    values: dict[tuple[datetime, int], Number],
    written: Callable[[Number], str],
) -> Chart:
    """Make a chart of stacked bars.

    Args:
        title: the heading of the chart.
        times: every place of the time axis in order, including those without a value.
        label_time: gives the text of a time.
        series: the groups; the first is at the bottom of the stack.
        values: by (time, place of the series); not negative.
        written: gives the text of a value, with its unit.
    """
    sums = {time: _sum(values.get((time, group.place), 0) for group in series) for time in times}
    highest = max(sums.values(), default=0)
    bars: list[Bar] = []
    step = WIDTH / max(len(times), 1)
    for number, time in enumerate(times):
        top = float(HEIGHT)
        for group in series:
            value = values.get((time, group.place), 0)
            if not value:
                continue
            height = max(float(value / highest) * HEIGHT, _LEAST_HEIGHT)
            top -= height
            bars.append(
                Bar(
                    x=round(number * step + step * _GAP / 2, 2),
                    y=round(max(top, 0.0), 2),
                    width=round(step * (1 - _GAP), 2),
                    height=round(height, 2),
                    place=group.place,
                    title=f"{label_time(time)}, {group.label}: {written(value)}",
                )
            )
    rows = tuple(
        Row(
            label_time(time),
            tuple(written(values.get((time, group.place), 0)) for group in series),
            written(sums[time]),
        )
        for time in reversed(times)
        if sums[time]
    )
    return Chart(
        title=title,
        total=written(_sum(sums.values())),
        highest=written(highest),
        bars=tuple(bars),
        rows=rows,
        series=tuple(series),
        first=label_time(times[0]) if times else "",
        last=label_time(times[-1]) if times else "",
    )


def _sum(values: object) -> Number:
    total: Number = 0
    for value in values:  # type: ignore[attr-defined]  # any iterable of numbers; Decimal and int do not share a type
        total += value
    return total
