"""Holds: gateway_core.limits

The form of a limit, its windows, its rate, and the names of its counts.
"""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.limits import rates
from gateway_core.limits.limit import Counts, Limit, Measure, Mode, Override, Period, Used, does_count, identity
from gateway_core.limits.names import CountName
from gateway_core.limits.windows import NEVER, TimeZoneUnknown, Window, window_at, zone_of

SECOND = 1_000_000
MINUTE = 60 * SECOND


def moment(text: str) -> int:
    """Microseconds since 1970 of an ISO time; UTC where it names no offset."""
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * SECOND


def limit(period: Period, zone: str = "UTC") -> Limit:
    return Limit(measure=Measure.COST, amount=1, period=period, time_zone=zone)


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        (Period.MINUTE, "UTC", "2026-11-29T12:34:56", "2026-11-29T12:34:00", "2026-11-29T12:35:00"),
        (Period.HOUR, "UTC", "2026-11-29T12:34:56", "2026-11-29T12:00:00", "2026-11-29T13:00:00"),
        (Period.DAY, "UTC", "2026-11-29T00:00:00", "2026-11-29T00:00:00", "2026-11-30T00:00:00"),
        (Period.DAY, "Asia/Kathmandu", "2026-11-29T19:00:00", "2026-11-29T18:15:00", "2026-11-30T18:15:00"),
        # 2026-11-29 is a Sunday.
        (Period.WEEK, "UTC", "2026-11-29T23:59:59", "2026-11-23T00:00:00", "2026-11-30T00:00:00"),
        (Period.MONTH, "UTC", "2026-02-28T23:59:59", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        (Period.MONTH, "America/New_York", "2027-01-01T02:00:00", "2026-12-01T05:00:00", "2027-01-01T05:00:00"),
        # Days of 23 and 25 hours.
        (Period.DAY, "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        (Period.DAY, "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        # Midnight is left out: the day begins at 01:00. Midnight comes twice: it begins with the first.
        (Period.DAY, "Africa/Cairo", "2026-04-24T12:00:00", "2026-04-23T22:00:00", "2026-04-24T21:00:00"),
        (Period.DAY, "America/Havana", "2026-11-01T12:00:00", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),
    ],
)
def test_a_window_begins_and_ends_by_the_calendar_of_its_time_zone(period, zone, now, start, end):
    assert window_at(limit(period, zone), moment(now)) == Window(moment(start), moment(end))


def test_a_total_and_a_rate_never_end():
    assert window_at(limit(Period.TOTAL), moment("2026-11-29T12:00:00")) == Window(0, NEVER)
    rate = Limit(measure=Measure.REQUESTS, amount=1, period=Period.MINUTE)
    assert window_at(rate, moment("2026-11-29T12:00:00")) == Window(0, NEVER)


@given(
    now=st.integers(moment("1990-01-01T00:00:00"), moment("2100-01-01T00:00:00")),
    period=st.sampled_from([Period.MINUTE, Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH]),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kathmandu"]
    ),
)
def test_windows_follow_each_other_without_a_gap(now, period, zone):
    found = window_at(limit(period, zone), now)

    assert found.start <= now < found.end
    assert window_at(limit(period, zone), found.start) == found
    assert window_at(limit(period, zone), found.end - 1) == found
    assert window_at(limit(period, zone), found.end).start == found.end


@pytest.mark.parametrize("name", ["", "Nowhere/Land", "../../etc/passwd", "/etc/localtime", "UTC\0"])
def test_a_name_that_is_not_a_time_zone_is_refused(name):
    with pytest.raises(TimeZoneUnknown):
        zone_of(name)


def test_a_limit_keeps_its_count_when_its_amount_changes():
    one = limit(Period.DAY)
    other = Limit(
        measure=Measure.COST,
        amount=2,
        period=Period.DAY,
        mode=Mode.OBSERVE,
        overrides=(Override(amount=9, until=5),),
        since=7,
    )
    assert identity(one) == identity(other)
    assert len({identity(limit(period)) for period in Period}) == len(Period)
    assert identity(limit(Period.DAY, "Europe/Berlin")) != identity(one)
    assert identity(Limit(measure=Measure.COST, amount=1, counts=Counts(providers=("openai",)))) != identity(
        Limit(measure=Measure.COST, amount=1, counts=Counts(models=("openai",)))
    )


def test_an_override_holds_until_it_ends():
    found = Limit(
        measure=Measure.COST, amount=5, overrides=(Override(amount=9, until=100), Override(amount=3, until=200))
    )

    assert [found.amount_at(now) for now in (0, 99, 100, 199, 200)] == [9, 9, 3, 3, 5]


@pytest.mark.parametrize(
    ("counts", "does"),
    [
        (None, True),
        (Counts(providers=("openai",)), True),
        (Counts(providers=("groq",)), False),
        (Counts(models=("GPT-4o",)), True),
        (Counts(models=("openai:gpt-4O",)), True),
        (Counts(models=("groq:gpt-4o",)), False),
        (Counts(key_sources=("user",)), True),
        (Counts(key_sources=("ngrok",)), False),
        (Counts(providers=("openai",), models=("o3",)), False),
    ],
)
def test_a_limit_counts_the_attempts_that_it_names(counts, does):
    assert does_count(counts, provider="openai", model="gpt-4o", key_source="user") is does


def test_each_measure_counts_its_own():
    used = Used(cost=7, input_tokens=2, output_tokens=3, requests=1)

    assert [used.of(measure) for measure in Measure] == [7, 5, 2, 3, 1, 1]


@given(
    amount=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.integers(0, 2 * MINUTE), st.integers(1, 5)), max_size=60),
)
def test_a_rate_lets_through_its_amount_and_what_time_adds(amount, steps):
    empty_at, now, let_through = 0, 10**15, []
    for pause, need in steps:
        now += pause
        taken = rates.take(empty_at, now, amount, need=need, ahead=0, returned=0)
        empty_at = taken.empty_at
        if taken.granted:
            assert taken.granted == need
            let_through.append((now, need))
        elif need <= amount:
            again = rates.take(empty_at, now + taken.wait, amount, need=need, ahead=0, returned=0)
            assert again.granted == need, "the wait that was answered is enough"
            early = rates.take(empty_at, now + taken.wait - 1, amount, need=need, ahead=0, returned=0)
            assert not early.granted, "and no longer than needed"
    for place, (start, _) in enumerate(let_through):
        for end, _ in let_through[place:]:
            passed = sum(need for at, need in let_through if start <= at <= end)
            assert passed <= amount + (end - start) // rates.interval(amount) + 1


def test_what_was_taken_ahead_can_be_given_back():
    taken = rates.take(0, MINUTE, 80, need=1, ahead=50, returned=0)

    assert taken.granted == 1 + 79 // 8
    assert rates.in_use(taken.empty_at, MINUTE, 80) == 10
    assert rates.in_use(rates.take(taken.empty_at, MINUTE, 80, need=0, ahead=0, returned=9).empty_at, MINUTE, 80) == 1


def test_the_name_of_a_count_is_read_back():
    name = CountName("aigk_01h455vb4pex5vsknk084sn02q", "0123456789abcdef", 1_796_000_000)

    assert CountName.parse(str(name)) == name
    for broken in ("", "a:b", "a:b:c", "a:b:1:2"):
        with pytest.raises(ValueError):  # noqa: PT011 -- any of Python's own texts
            CountName.parse(broken)
