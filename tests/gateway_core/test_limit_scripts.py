"""Holds: gateway_core.limits.counting, gateway_core.limits.rates, gateway_core.limits.names

The scripts that Redis runs do what the functions of the library do, over random histories; and they know when a count
is not whole.
"""

import random
from typing import Any

import pytest
from redis import Redis

from gateway_core.limits import names, rates
from gateway_core.limits.counting import Ask, Count, Verdict
from gateway_core.limits.names import CountName
from gateway_core.snapshot import Keys
from tests.tiers import number

KEYS = Keys("gw")
NAME = CountName("aigk_01h455vb4pex5vsknk084sn02q", "0123456789abcdef", 1_796_000_000)
NEVER_BEGINS, BEGINS = "", str(2**52)


class InRedis:
    """One count in Redis, by its scripts."""

    def __init__(self, redis: Redis, name: CountName = NAME) -> None:
        self.redis: Any = redis
        self.name = name
        self.key = names.count(KEYS, name)
        self._ask = redis.register_script(names.script("ask"))
        self._confirm = redis.register_script(names.script("confirm"))
        self._open = redis.register_script(names.script("open"))

    def call(self, worker: str, ask: Ask, amount: int, *, kind: str = "c", begin: str = BEGINS, life: str = "") -> Any:
        """The moment of the call, and its answer."""
        answers = self._ask(
            keys=[names.marker(KEYS), names.wanted(KEYS), self.key],
            args=[KEYS.epoch, worker, kind, str(self.name), begin, 3600, life, *ask, amount],
        )
        return answers if not answers else (answers[0], answers[1])

    def confirm(self, round_: int, worker: str, life: str, true: int, counted: int) -> int:
        """How many counts took it."""
        return int(self._confirm(keys=[self.key], args=[round_, 1, worker, life, true, counted]))

    def open(self, used: int, round_: int, empty_at: str = "") -> int:
        """Begin it from PostgreSQL."""
        return int(
            self._open(
                keys=[KEYS.epoch, names.wanted(KEYS), self.key], args=[str(self.name), used, round_, 3600, empty_at]
            )
        )

    def fields(self) -> dict[str, str]:
        """All that Redis holds of it."""
        return {name.decode(): value.decode() for name, value in self.redis.hgetall(self.key).items()}


@pytest.fixture
def count(redis: Redis) -> InRedis:
    redis.hset(KEYS.epoch, mapping={"id": "epoch-1", "complete": 1, "number": 0})
    return InRedis(redis)


@pytest.mark.parametrize("seed", range(number(6, full=200)))
def test_redis_counts_as_the_library_does(count, seed):
    choose = random.Random(seed)
    model = Count()
    numbers, totals = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
    amount = choose.choice([5, 100, 10**15])
    life = ""
    for step in range(80):
        worker = choose.choice("abc")
        what = choose.random()
        if what < 0.15 and life:
            true, counted = choose.randint(0, amount // 4), choose.randint(0, amount // 4)
            assert count.confirm(step + 1, worker, life, true, counted) == 1
            model.confirm(worker, true=true, counted=counted)
        elif what < 0.25:
            # Every worker has been silent for a while, or for so long that it is forgotten.
            past = choose.choice([1, 700_000_000])
            count.redis.hset(names.marker(KEYS), "spared", 0)
            for name, held in model.held.items():
                held.until -= past + 10_000_000
                count.redis.hset(count.key, f"w:{name}", " ".join(map(str, vars(held).values())))
        else:
            numbers[worker] += choose.choice([1, 1, 1, 0])
            totals[worker] += choose.randint(0, amount // 8)
            ask = Ask(
                numbers[worker],
                totals[worker],
                choose.randint(0, amount // 8),
                choose.choice([0, 0, choose.randint(0, amount // 8)]),
                choose.choice([0, choose.randint(1, amount // 2 + 1)]),
                choose.randint(0, amount),
            )
            now, answer = count.call(worker, ask, amount)
            life = answer[2].decode()
            expected = model.ask(worker, ask, amount=amount, now=now, is_sparing=False)
            assert (answer[0], answer[1]) == (expected.verdict, expected.ceiling)
            if expected.verdict is not Verdict.STALE:
                assert bool(answer[3]) is expected.is_recalled
        # Nobody is spared in this history.
        count.redis.hset(names.marker(KEYS), "spared", 0)
        found = Count.of(count.fields())
        assert (found.base, found.held, found.confirmed) == (model.base, model.held, model.confirmed)


@pytest.mark.parametrize("seed", range(number(3, full=50)))
def test_redis_keeps_a_rate_as_the_library_does(count, seed):
    choose = random.Random(seed)
    amount = choose.choice([1, 20, 1_000_000])
    empty_at = 0
    for _ in range(60):
        need, ahead, returned = choose.choice([0, 1, 1, 5]), choose.randint(0, 9), choose.choice([0, 0, 2])
        now, answer = count.call("a", Ask(0, 0, 0, returned, need, ahead), amount, kind="r")
        expected = rates.take(empty_at, now, amount, need=need, ahead=ahead, returned=returned)
        empty_at = expected.empty_at
        assert (answer[1], answer[3]) == (expected.granted, expected.wait)
        assert int(count.fields()["empty_at"]) == empty_at


def test_without_an_epoch_nothing_is_answered(redis):
    assert not InRedis(redis).call("a", Ask(1, 0, 0, 0, 1), 10)


def test_a_window_that_began_before_redis_did_is_not_taken_for_an_empty_one(count):
    _, answer = count.call("a", Ask(1, 0, 0, 0, 1), 10, begin=NEVER_BEGINS)
    assert answer[0] == Verdict.UNKNOWN
    since = int(count.redis.hget(names.marker(KEYS), "since"))
    _, answer = count.call("a", Ask(2, 0, 0, 0, 1), 10, begin=str(since - 1))
    assert answer[0] == Verdict.UNKNOWN
    assert count.redis.smembers(names.wanted(KEYS)) == {str(NAME).encode()}

    assert count.open(9, 5) == 1
    assert not count.redis.smembers(names.wanted(KEYS))
    assert count.call("a", Ask(3, 0, 0, 0, 2), 10)[1][0] == Verdict.REFUSED
    assert count.call("a", Ask(4, 0, 0, 0, 1), 10)[1][0] == Verdict.GRANTED


def test_a_window_that_began_later_begins_at_zero(count):
    count.call("a", Ask(1, 0, 0), 10, begin=NEVER_BEGINS)
    since = int(count.redis.hget(names.marker(KEYS), "since"))

    assert count.call("a", Ask(2, 0, 0, 0, 10), 10, begin=str(since))[1][0] == Verdict.GRANTED


def test_a_new_epoch_begins_every_count_again(count):
    _, first = count.call("a", Ask(1, 4, 0), 10)
    count.redis.hset(KEYS.epoch, "id", "epoch-2")

    assert count.call("a", Ask(2, 4, 0), 10, life=first[2].decode(), begin=NEVER_BEGINS)[1][0] == Verdict.UNKNOWN
    assert count.open(4, 0) == 1
    _, again = count.call("a", Ask(3, 4, 0), 10, life=first[2].decode())
    assert again[0] == Verdict.BEGUN_AGAIN
    assert again[2] != first[2]
    assert count.call("a", Ask(4, 0, 0), 10, life=again[2].decode())[1][0] == Verdict.GRANTED
    assert Count.of(count.fields()).used() == 4


def test_a_round_of_ingest_counts_once(count):
    _, answer = count.call("a", Ask(1, 5, 0), 10)
    life = answer[2].decode()

    assert count.confirm(7, "a", life, 4, 5) == 1
    assert count.confirm(7, "a", life, 4, 5) == 0
    assert count.confirm(6, "a", life, 4, 5) == 0
    assert Count.of(count.fields()).used() == 4
    # Of a worker's earlier life nothing is in its totals: only what was used counts.
    assert count.confirm(8, "a", "1", 2, 2) == 1
    assert Count.of(count.fields()).used() == 6


def test_a_count_that_redis_does_not_hold_takes_no_round_and_is_opened_once(count):
    assert count.confirm(7, "a", "1", 4, 5) == 0
    assert not count.fields()
    assert count.open(4, 7) == 1
    assert count.open(99, 8) == 0
    assert count.confirm(7, "a", "1", 4, 5) == 0, "the round is in what it began with"
    assert Count.of(count.fields()).used() == 4


def test_nobody_loses_its_share_because_redis_stood_still(count):
    """Redis did not answer for longer than a share lasts: every worker was silent, and none of them is gone."""
    count.call("a", Ask(1, 0, 6), 10)
    count.redis.hset(count.key, "w:a", "1 6 0 6 1")
    count.redis.hset(names.marker(KEYS), "seen", 1)
    assert count.call("b", Ask(1, 0, 0, 0, 6), 10)[1][0] == Verdict.REFUSED

    count.redis.hset(names.marker(KEYS), "spared", 1)
    assert count.call("b", Ask(2, 0, 0, 0, 6), 10)[1][0] == Verdict.GRANTED


def test_after_a_loss_nobody_gets_a_place_before_the_others_have_reported_theirs(count):
    assert count.call("a", Ask(1, 0, 0, 0, 1), 4, kind="s")[1][0] == Verdict.WAIT
    assert count.call("b", Ask(1, 0, 3), 4, kind="s")[1][0] == Verdict.GRANTED
    count.redis.hset(names.marker(KEYS), "since", 1)

    assert count.call("a", Ask(2, 0, 0, 0, 1), 4, kind="s")[1][0] == Verdict.GRANTED
    assert count.call("a", Ask(3, 0, 1, 0, 1), 4, kind="s")[1][0] == Verdict.REFUSED


def test_a_row_that_no_worker_writes_stops_nobody_and_is_dropped(count: InRedis) -> None:
    count.redis.hset(count.key, mapping={"epoch": "epoch-1", "opened": "1", "w:b": "31 -8999671 300 -8999971 99"})
    count.redis.hset(count.key, "w:a", "-1 x")

    for number_ in (1, 2):
        _, answer = count.call("a", Ask(number_, 0, 0, 0, need=5, ahead=0), 10)
        assert answer[0] == 1

    assert "w:b" not in count.fields()
