"""Holds: gateway_core.limits.counting, gateway_core.limits.leases

A deterministic simulator of workers that share a limit: random requests, answers of random length, lost and late
calls, workers that are killed, stopped or cut off, clocks that run at different speeds, a Redis that loses everything.

Source: docs/decisions/0120-limits.md.
"""

import os
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway_core.limits.counting import LIFE, Answer, Ask, Count, Verdict
from gateway_core.limits.leases import Lease
from tests.tiers import number

WORKERS = 3
# `make soak` sets it.
HISTORIES = int(os.environ.get("LIMIT_HISTORIES", "0")) or number(60, full=1000)

worker_numbers = st.integers(0, WORKERS - 1)
sizes = st.integers(1, 40)


@dataclass
class Worker:
    """A worker: its lease, its clock, its requests in flight as what they reserved."""

    name: str
    # Its clock runs at this many thousandths of the speed of Redis's.
    speed: int
    lease: Lease = field(default_factory=Lease)
    requests: list[int] = field(default_factory=list)
    is_reachable: bool = True


@dataclass
class Usage:
    """An event on its way to ingest."""

    worker: str
    life: int
    true: int
    counted: int


class Limited(RuleBasedStateMachine):
    """Workers, Redis, PostgreSQL, and what may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**12
        self.life = 1
        self.count = Count()
        self.made = 0
        # By the moment: calls that were sent and have not arrived.
        self.late: list[tuple[str, int, Ask]] = []
        self.on_its_way: list[Usage] = []
        self.ingested = 0
        # What answers used beyond their reservations, and what the bound does not cover (the decision record).
        self.error = self.uncovered = 0
        self.silent: set[tuple[str, int]] = set()

    @initialize(
        amount=st.integers(1, 120),
        speeds=st.lists(st.integers(920, 1080), min_size=WORKERS, max_size=WORKERS),
        faults=st.sampled_from([(), (), ("cut_off",), ("kill",), ("lose_redis",), ("kill", "cut_off", "lose_redis")]),
    )
    def begin(self, amount: int, speeds: list[int], faults: tuple[str, ...]) -> None:
        self.amount = amount
        # Most histories have few kinds of faults: what the bound does not cover would hide what it has to.
        self.faults = faults
        self.workers = [self.new(speed) for speed in speeds]

    def new(self, speed: int) -> Worker:
        self.made += 1
        return Worker(f"w{self.made}", speed)

    def clock(self, worker: Worker) -> int:
        return self.now * worker.speed // 1000

    # ── what is true ──

    @property
    def used(self) -> int:
        return self.ingested + sum(one.true for one in self.on_its_way)

    @property
    def reserved(self) -> int:
        return sum(sum(worker.requests) for worker in self.workers)

    def not_reported(self, name: str) -> int:
        """What a worker of this name has used or reserved that Redis would not count once it is silent."""
        held = self.count.held.get(name)
        known = 0 if held is None else max(held.used - self.count.confirmed.get(name, 0), 0)
        used = sum(one.counted for one in self.on_its_way if one.worker == name and one.life == self.life)
        reserved = sum(sum(worker.requests) for worker in self.workers if worker.name == name)
        return max(used - known, 0) + reserved

    # ── calls ──

    def send(self, worker: Worker, *, need: int = 0, fate: str = "answered") -> Answer | None:
        at = self.clock(worker)
        life = worker.lease.life
        ask = worker.lease.ask(at, need=need)
        if not worker.is_reachable or fate == "lost":
            return None
        if fate == "late":
            self.late.append((worker.name, self.life if life == "" else int(life), ask))
            return None
        answer = self.arrive(worker.name, int(life or self.life), ask)
        if fate == "unanswered":
            return None
        worker.lease.take(at, str(self.life), answer)
        return answer

    def arrive(self, name: str, life: int, ask: Ask) -> Answer:
        if life != self.life:
            return Answer(Verdict.BEGUN_AGAIN, 0, is_recalled=False)
        return self.count.ask(name, ask, amount=self.amount, now=self.now)

    fates = st.sampled_from(["answered"] * 8 + ["lost", "late", "unanswered"])

    @rule(which=worker_numbers, size=sizes, fate=fates)
    def request(self, which: int, size: int, fate: str) -> None:
        """A request comes: it is let through from memory, or after a call, or not."""
        worker = self.workers[which]
        if worker.lease.free(self.clock(worker)) < size:
            answer = self.send(worker, need=size, fate=fate)
            if answer is not None and answer.verdict is Verdict.REFUSED:
                reported = self.count.base + sum(
                    max(one.used + one.reserved - self.count.confirmed.get(name, 0), 0)
                    for name, one in self.count.held.items()
                )
                assert self.amount - reported < size
            if answer is None or answer.verdict is not Verdict.GRANTED:
                return
            assert worker.lease.free(self.clock(worker)) >= size
        worker.lease.reserve(size)
        worker.requests.append(size)

    @rule(which=worker_numbers, share=st.integers(0, 110))
    def end(self, which: int, share: int) -> None:
        """A request's answer ends, breaks or is cut. Its estimate may have been wrong."""
        worker = self.workers[which]
        if not worker.requests:
            return
        reserved = worker.requests.pop(0)
        counted = reserved * share // 100
        # Ingest knows better by a tenth.
        true = counted * (100 - share % 10) // 100
        worker.lease.settle(reserved, counted)
        life = int(worker.lease.life or 0)
        self.on_its_way.append(Usage(worker.name, life, true, counted))
        self.error += max(counted - reserved, 0)
        if worker.lease.is_tight:
            self.send(worker)

    @rule(which=worker_numbers, fate=fates)
    def report(self, which: int, fate: str) -> None:
        self.send(self.workers[which], fate=fate)

    @precondition(lambda self: self.late)
    @rule(place=st.integers(0, 10))
    def arrive_late(self, place: int) -> None:
        name, life, ask = self.late.pop(place % len(self.late))
        self.arrive(name, life, ask)

    @rule(count=st.integers(1, 5))
    def ingest(self, count: int) -> None:
        """Ingest writes the oldest events, and confirms them."""
        taken, self.on_its_way = self.on_its_way[:count], self.on_its_way[count:]
        for one in taken:
            self.ingested += one.true
            if one.life == self.life:
                self.count.confirm(one.worker, true=one.true, counted=one.counted)
            else:
                self.count.base += one.true

    # ── faults ──

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 3, 6]))
    def wait(self, seconds: float) -> None:
        """Time passes. Workers that are alive and reach Redis report within it."""
        for _ in range(max(1, int(seconds))):
            self.now += int(min(seconds, 1) * 1_000_000)
            self.note_silent()
            for worker in self.workers:
                self.send(worker)

    def note_silent(self) -> None:
        """Workers whose shares end now: what they have not reported is not covered."""
        for name, held in self.count.held.items():
            if held.until <= self.now and (name, held.until) not in self.silent:
                self.silent.add((name, held.until))
                self.uncovered += self.not_reported(name)

    @precondition(lambda self: "kill" in self.faults)
    @rule(which=worker_numbers)
    def kill(self, which: int) -> None:
        """A worker is killed; its requests in flight end with it. Another one takes its place."""
        self.workers[which] = self.new(self.workers[which].speed)

    @precondition(lambda self: "cut_off" in self.faults)
    @rule(which=worker_numbers)
    def cut_off(self, which: int) -> None:
        self.workers[which].is_reachable = not self.workers[which].is_reachable

    @precondition(lambda self: "lose_redis" in self.faults)
    @rule()
    def lose_redis(self) -> None:
        """Redis is empty. The count begins again with what PostgreSQL knows."""
        self.uncovered += sum(one.counted for one in self.on_its_way) + self.reserved
        self.life += 1
        self.count = Count(base=self.ingested)

    @rule(which=worker_numbers, size=sizes)
    def ask_when_all_is_well(self, which: int, size: int) -> None:
        """Where everybody reports, whatever still fits is let through: nothing is refused that has room."""
        for worker in self.workers:
            worker.is_reachable = True
        self.ingest(len(self.on_its_way))
        self.wait(6)
        worker = self.workers[which]
        for _ in range(4):
            for other in self.workers:
                self.send(other)
            answer = self.send(worker, need=size)
            assert answer is not None
            if answer.verdict is Verdict.GRANTED or self.amount - self.used - self.reserved < size:
                return
            assert answer.verdict in {Verdict.WAIT, Verdict.BEGUN_AGAIN}
        raise AssertionError("a request was not let through that had room")

    # ── what holds ──

    @invariant()
    def never_more_than_the_amount(self) -> None:
        if hasattr(self, "amount"):
            assert self.used + self.reserved <= self.amount + self.error + self.uncovered

    def teardown(self) -> None:
        """When all is told and written, the count is the sum of the usage."""
        if not hasattr(self, "amount"):
            return
        for worker in self.workers:
            worker.is_reachable = True
            while worker.requests:
                reserved = worker.requests.pop()
                worker.lease.settle(reserved, reserved)
                self.on_its_way.append(Usage(worker.name, int(worker.lease.life or 0), reserved, reserved))
        self.now += LIFE + 1
        for worker in self.workers:
            self.send(worker)
            self.send(worker)
        self.ingest(len(self.on_its_way))
        for worker in self.workers:
            self.send(worker)
        assert self.count.used() == self.ingested
        assert self.count.reserved(self.now) == 0


Limited.TestCase.settings = settings(max_examples=HISTORIES, stateful_step_count=60, deadline=None)
TestLimits = Limited.TestCase
