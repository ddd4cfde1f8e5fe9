"""Holds: data_plane.forwarding.cooling

Which keys are passed over, for how long, and what ends it: the state machine by itself, with a clock of the test's own.
"""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from data_plane.forwarding import cooling as rules
from data_plane.forwarding.cooling import AccountKeys, Cooling, Place
from gateway_core.traces import CoolingCause
from tests import tiers

OPENAI = Place("openai", "aigpk_01h455vb4pex5vsknk084sn02q", "gpt-4o")
MINI = OPENAI._replace(model="gpt-4o-mini")
OTHER = OPENAI._replace(provider_key="aigpk_01h455vb4pex5vsknk084sn02r")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> AccountKeys:
    return AccountKeys(clock)


def fail(keys: AccountKeys, clock: Clock, means: int = 0, place: Place = OPENAI, **said: float) -> None:
    """An attempt that is made whatever is known, and fails at once."""
    keys.check(place, "sealed", clock.now)
    keys.failed(place, "sealed", means=means, wait=said.get("wait"))


def answer(keys: AccountKeys, clock: Clock, place: Place = OPENAI) -> None:
    keys.check(place, "sealed", clock.now)
    keys.answered(place, clock.now)


def is_asked(keys: AccountKeys, clock: Clock, place: Place = OPENAI, about: str = "sealed") -> bool:
    """Whether an attempt may be made; it is given up again."""
    is_free = keys.check(place, about, clock.now) is None
    if is_free:
        keys.abandoned(place, clock.now)
    return is_free


@pytest.mark.parametrize(
    ("means", "wait", "seconds", "cause"),
    [
        (401, None, 300, "key_refused"),
        (402, None, 300, "key_refused"),
        (403, 5.0, 300, "key_refused"),
        (429, 7.0, 7, "rate_limited"),
        (429, 0.25, 0.25, "rate_limited"),
        (429, 3600.0, 300, "rate_limited"),
        (429, None, 5, "rate_limited"),
    ],
)
def test_one_refusal_of_the_key_or_of_its_rate_is_enough(
    keys: AccountKeys, clock: Clock, means: int, wait: float | None, seconds: float, cause: str
) -> None:
    keys.failed(OPENAI, "sealed", means=means, wait=wait)

    cooled = keys.check(OPENAI, "sealed", clock.now)
    assert cooled is not None
    assert (cooled.cause.value, cooled.since) == (cause, 1000.0)
    clock.now += seconds - 0.01
    assert not is_asked(keys, clock)
    clock.now += 0.02
    assert is_asked(keys, clock)


@pytest.mark.parametrize("means", [0, 500, 502, 503, 529, 408, 302])
def test_half_of_ten_failures_within_the_window_are_needed_of_any_other(
    keys: AccountKeys, clock: Clock, means: int
) -> None:
    for _ in range(5):
        answer(keys, clock)
    for _ in range(4):
        fail(keys, clock, means)
    assert is_asked(keys, clock)

    fail(keys, clock, means)

    cooled = keys.check(OPENAI, "sealed", clock.now)
    assert cooled is not None
    assert cooled.cause is CoolingCause.FAILING
    clock.now += rules.FAILING_SECONDS
    assert is_asked(keys, clock)


def test_nine_failures_alone_are_too_few_and_less_than_half_of_many_too(keys: AccountKeys, clock: Clock) -> None:
    for _ in range(9):
        fail(keys, clock, 503)
    assert is_asked(keys, clock)
    for _ in range(20):
        answer(keys, clock)
    for _ in range(9):
        fail(keys, clock, 503)

    assert is_asked(keys, clock)
    fail(keys, clock, 503)
    fail(keys, clock, 503)
    assert not is_asked(keys, clock)


def test_what_lies_before_the_window_is_forgotten(keys: AccountKeys, clock: Clock) -> None:
    for _ in range(9):
        fail(keys, clock, 503)
    clock.now += rules.WINDOW_SECONDS

    fail(keys, clock, 503)

    assert is_asked(keys, clock)


def test_slow_failures_count_as_long_as_they_lie_within_the_window(keys: AccountKeys, clock: Clock) -> None:
    for _ in range(10):
        assert is_asked(keys, clock)
        fail(keys, clock)
        clock.now += 2.5

    assert not is_asked(keys, clock)


def test_one_probe_at_a_time(keys: AccountKeys, clock: Clock) -> None:
    fail(keys, clock, 401)
    clock.now += 300

    assert keys.check(OPENAI, "sealed", clock.now) is None
    clock.now += 0.1
    second = keys.check(OPENAI, "sealed", clock.now)

    assert second is not None
    assert second.cause is CoolingCause.KEY_REFUSED


@pytest.mark.parametrize(("means", "seconds"), [(401, 300), (429, 5), (503, 10), (0, 10)])
def test_a_probe_that_fails_begins_it_all_over(keys: AccountKeys, clock: Clock, means: int, seconds: float) -> None:
    fail(keys, clock, 429, wait=20)
    clock.now += 20

    fail(keys, clock, means)

    clock.now += seconds - 0.01
    assert not is_asked(keys, clock)
    clock.now += 0.02
    assert is_asked(keys, clock)


def test_a_probe_that_answers_ends_it_and_what_was_counted(keys: AccountKeys, clock: Clock) -> None:
    for _ in range(10):
        fail(keys, clock, 503)
    clock.now += 10

    answer(keys, clock)
    for _ in range(8):
        fail(keys, clock, 503)

    assert is_asked(keys, clock)
    assert keys.check(OPENAI, "sealed", clock.now) is None


def test_a_probe_that_is_given_up_leaves_room_for_the_next_and_no_other_attempt_does(
    keys: AccountKeys, clock: Clock
) -> None:
    fail(keys, clock, 401)
    clock.now += 300
    probe = clock.now
    assert keys.check(OPENAI, "sealed", probe) is None
    clock.now += 1

    keys.abandoned(OPENAI, clock.now)
    assert keys.check(OPENAI, "sealed", clock.now) is not None
    keys.abandoned(OPENAI, probe)
    assert keys.check(OPENAI, "sealed", clock.now) is None


def test_a_key_that_was_rotated_is_asked_at_once_and_its_old_value_says_nothing_of_it(
    keys: AccountKeys, clock: Clock
) -> None:
    fail(keys, clock, 401)

    assert is_asked(keys, clock, about="sealed again")
    # An attempt with the old value ends only now.
    keys.failed(OPENAI, "sealed", means=401, wait=None)
    assert is_asked(keys, clock, about="sealed again")


def test_other_keys_and_other_models_are_not_concerned(keys: AccountKeys, clock: Clock) -> None:
    fail(keys, clock, 401)

    assert is_asked(keys, clock, MINI)
    assert is_asked(keys, clock, OTHER)
    assert not is_asked(keys, clock)


def test_an_answer_to_an_attempt_that_began_before_proves_nothing(keys: AccountKeys, clock: Clock) -> None:
    began = clock.now
    clock.now += 1
    fail(keys, clock, 401)
    clock.now += 1

    keys.answered(OPENAI, began)
    assert not is_asked(keys, clock)
    # The last of a plan is asked whatever is known; it answers.
    keys.answered(OPENAI, clock.now)
    assert is_asked(keys, clock)


def test_a_short_trouble_does_not_end_a_long_one(keys: AccountKeys, clock: Clock) -> None:
    fail(keys, clock, 401)
    clock.now += 100
    fail(keys, clock, 429, wait=1)
    for _ in range(10):
        fail(keys, clock, 503)
    clock.now += 150

    cooled = keys.check(OPENAI, "sealed", clock.now)

    assert cooled is not None
    assert (cooled.cause, cooled.since) == (CoolingCause.KEY_REFUSED, 1000.0)


def test_since_is_when_the_same_trouble_began(keys: AccountKeys, clock: Clock) -> None:
    for _ in range(3):
        fail(keys, clock, 401)
        clock.now += 300.0

    fail(keys, clock, 401)

    assert [cooled.since for _, cooled in keys.cooling()] == [1000.0]


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(clock: Clock) -> None:
    cooling = Cooling(clock)
    keys = cooling.of("ac_1")
    for number in range(rules.MOST_PLACES + 50):
        fail(keys, clock, 401, OPENAI._replace(model=f"m{number}"))
    for number in range(rules.MOST_ACCOUNTS):
        fail(cooling.of(f"ac_{number}"), clock, 401)

    assert len(dict(keys.cooling())) == rules.MOST_PLACES
    assert is_asked(keys, clock, OPENAI._replace(model="m0"))
    assert not is_asked(keys, clock, OPENAI._replace(model=f"m{rules.MOST_PLACES}"))
    listed = list(cooling.cooling(most_of_an_account=3))
    assert len(listed) == rules.MOST_ACCOUNTS + 2
    assert [account for account, _, _ in listed].count("ac_1") == 3


class CoolingMachine(RuleBasedStateMachine):
    """Random attempts of one key. The model: what the sentences of the documentation say, written out in full."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.keys = AccountKeys(self.clock)
        self.value = "v0"
        # (moment, whether it failed) of what ended.
        self.ended: list[tuple[float, bool]] = []
        self.until = 0.0
        # The value that cools, and when it began to the last time; None while the key is asked.
        self.cools: tuple[str, float] | None = None
        self.probe: float | None = None

    @rule(seconds=st.sampled_from([0.001, 0.5, 4.9, 5.0, 10.0, 29.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def rotate(self) -> None:
        self.value += "'"

    @rule(target=attempts)
    def begin(self) -> tuple[float, str]:
        # No two attempts begin at the same moment.
        self.clock.now += 0.000_1
        now = self.clock.now
        if self.cools is not None and self.cools[0] != self.value:
            self._forget()
        expected = self.cools is not None and (now < self.until or self.probe is not None)

        cooled = self.keys.check(OPENAI, self.value, now)

        assert (cooled is not None) == expected
        if self.cools is not None and not expected:
            self.probe = now
        return now, self.value

    @rule(attempt=consumes(attempts))
    def answers(self, attempt: tuple[float, str]) -> None:
        began, _ = attempt
        if self.cools is not None and began >= self.cools[1]:
            self._forget()
        self.keys.answered(OPENAI, began)
        self.ended.append((self.clock.now, False))

    @rule(attempt=consumes(attempts))
    def is_given_up(self, attempt: tuple[float, str]) -> None:
        if self.probe == attempt[0]:
            self.probe = None
        self.keys.abandoned(OPENAI, attempt[0])

    @rule(
        attempt=consumes(attempts),
        means=st.sampled_from([0, 401, 403, 429, 500, 503]),
        wait=st.sampled_from([None, 2.0, 900.0]),
    )
    def fails(self, attempt: tuple[float, str], means: int, wait: float | None) -> None:
        now, value = self.clock.now, attempt[1]
        self.ended.append((now, True))
        self.keys.failed(OPENAI, value, means=means, wait=wait)
        if means in {401, 403}:
            self._cool(value, 300.0)
        elif means == 429:
            self._cool(value, 5.0 if wait is None else min(wait, 300.0))
        else:
            slice_now = int(now // 5)
            recent = [failed for moment, failed in self.ended if int(moment // 5) > slice_now - 6]
            is_open = len(recent) >= 10 and sum(recent) * 2 >= len(recent)
            if is_open or (self.cools is not None and now >= self.until):
                self._cool(value, 10.0)

    def _cool(self, value: str, seconds: float) -> None:
        if self.cools is None or self.cools[0] != value:
            self.until = 0.0
        self.cools = (value, self.clock.now)
        self.until = max(self.until, self.clock.now + seconds)
        self.probe = None

    def _forget(self) -> None:
        self.cools = None
        self.probe = None
        self.ended.clear()

    @invariant()
    def the_report_says_the_same(self) -> None:
        now = self.clock.now
        expected = self.cools is not None and (now < self.until or self.probe is not None)
        assert [place for place, _ in self.keys.cooling()] == ([OPENAI] if expected else [])

    @precondition(lambda self: self.cools is not None)
    @rule()
    def it_ends(self) -> None:
        """Whatever happened, the key is asked again within five minutes, unless a probe is under way."""
        self.clock.now += 300.0
        if self.probe is None:
            assert not list(self.keys.cooling())


def test_in_no_order_of_attempts_is_more_or_less_passed_over_than_is_documented() -> None:
    run_state_machine_as_test(
        CoolingMachine, settings=settings(max_examples=tiers.number(40, full=1000), stateful_step_count=60)
    )
