"""Holds: gateway_core.durations"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.durations import InvalidDuration, parse, to_seconds

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


# Go's own table (src/time/time_test.go), as far as it is above zero.
@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5s", 5 * SECOND),
        ("30s", 30 * SECOND),
        ("1478s", 1478 * SECOND),
        ("+5s", 5 * SECOND),
        ("5.0s", 5 * SECOND),
        ("5.6s", 5 * SECOND + 600_000_000),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("1.0s", SECOND),
        ("1.00s", SECOND),
        ("1.004s", SECOND + 4_000_000),
        ("1.0040s", SECOND + 4_000_000),
        ("100.00100s", 100 * SECOND + 1_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("13ms", 13_000_000),
        ("14s", 14 * SECOND),
        ("15m", 15 * MINUTE),
        ("16h", 16 * HOUR),
        ("3h30m", 3 * HOUR + 30 * MINUTE),
        ("10.5s4m", 4 * MINUTE + 10 * SECOND + SECOND // 2),
        ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4_005_006),
        ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14 * SECOND + 425_000_000),
        ("52763797000ns", 52_763_797_000),
        ("0.3333333333333333333h", 20 * MINUTE),
        ("0.100000000000000000000h", 6 * MINUTE),
        ("0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 372_539_827),
        ("0.52346492100500h", 1_884_473_715_617),  # ...618 if it were rounded once
        ("0.39528672023055548h", 1_423_032_192_830),  # ...829 if it were rounded once
        ("9007199254740993ns", 2**53 + 1),
        ("9223372036854775807ns", 2**63 - 1),
        ("9223372036854775.807us", 2**63 - 1),
        ("9223372036s854ms775us807ns", 2**63 - 1),
        ("1m30s", 90 * SECOND),
        ("1.5h", 90 * MINUTE),
        ("2m", 120 * SECOND),
        ("0h1s", SECOND),
    ],
)
def test_a_duration_means_what_it_means_in_go(text, ns):
    assert parse(text) == ns


NO_NUMBERS = [
    "",
    "-",
    "+",
    "s",
    ".",
    "s5s",
    ".s5s",
    "-.",
    ".s",
    "+.s",
    "--1s",
    "\uff11s",
    "\u0661s",
    "\x85\x85",
    "\xffff",
    "\ud800",
]
NO_UNITS = ["3", "1d", "1 s", "1s ", "1s\n", "1s\0", "1S", "1H", "1e3s", "0x10s", "1.2.3s", "1,5s", "1_000s", " 1s"]


@pytest.mark.parametrize("text", [*NO_NUMBERS, *NO_UNITS, "hello \xffff world"])
def test_what_go_does_not_read_is_refused(text):
    with pytest.raises(InvalidDuration):
        parse(text)


@pytest.mark.parametrize("text", ["0", "0s", "-0", "+0", "0.0h", "-5s", "-1.5h", "0.1ns", "0h0m0s"])
def test_a_duration_is_above_zero(text):
    with pytest.raises(InvalidDuration, match=r"^A duration must be greater than zero\.$"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["9223372036854775808ns", "9223372036854775.808us", "9223372036854ms775us808ns", "2562048h", "9" * 63 + "s"],
)
def test_a_duration_fits_what_go_can_hold(text):
    with pytest.raises(InvalidDuration, match="292 years"):
        parse(text)


@pytest.mark.parametrize("value", [None, 30, 1.5, True, b"30s", ["30s"], {}])
def test_what_is_no_text_is_no_duration(value):
    with pytest.raises(InvalidDuration):
        parse(value)


@pytest.mark.parametrize("text", ["0" * 10_000_000 + "1s", "1s" * 5_000_000, "." * 10_000_000], ids=["0", "1s", "."])
def test_an_endless_text_is_refused(text):
    with pytest.raises(InvalidDuration):
        parse(text)


def test_a_number_without_a_unit_is_told_so():
    with pytest.raises(InvalidDuration, match="needs a unit"):
        parse("30")


@given(st.integers(0, 2_000_000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999_999))
def test_whole_numbers_are_exact(hours, minutes, seconds, ns):
    expected = hours * HOUR + minutes * MINUTE + seconds * SECOND + ns
    text = f"{hours}h{minutes}m{seconds}s{ns}ns"

    if expected:
        assert parse(text) == expected


@given(st.text(alphabet="0123456789.hmsnuµ+- ", max_size=70))
def test_any_text_is_a_duration_in_bounds_or_is_refused(text):
    try:
        ns = parse(text)
    except InvalidDuration:
        return

    assert 0 < ns < 2**63


def test_seconds_are_what_timers_want():
    assert to_seconds(parse("1m30.5s")) == 90.5
