"""What limits cost a worker, in one run on throw-away servers: `make bench-limits`.

python -m benchmarks.limits [--rounds 5] [--seconds 5]

One worker on a core of its own serves an access key without limits and one with three (cost, tokens, requests), in
alternating rounds. The table shows medians, and how many calls of Redis a request made.
"""

import argparse
import contextlib
import statistics
from typing import Any, Final

from benchmarks import load
from benchmarks.data_plane import WARM_SECONDS, Bench, table
from benchmarks.load import SHORT_JSON, STREAM, Ask
from gateway_core.limits import names
from gateway_core.limits.limit import DOLLAR, Limit, Measure, Period
from gateway_core.snapshot import Keys

LIMITS: Final = (
    Limit(measure=Measure.COST, amount=100_000 * DOLLAR, period=Period.MONTH),
    Limit(measure=Measure.TOKENS, amount=10**12, period=Period.DAY),
    Limit(measure=Measure.REQUESTS, amount=10**9, period=Period.HOUR),
)


def main() -> None:
    """Start the servers and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    load.find_wrk()
    bench = Bench(options.rounds, options.seconds)
    with contextlib.ExitStack() as running:
        bench.start(running)
        redis: Any = bench.writer.redis
        # As after some hours: every window was counted from its beginning.
        redis.hset(names.marker(Keys("gw")), mapping={"epoch": bench.writer.epoch, "since": 1, "seen": 1})
        tokens = {"without limits": bench.token, "with three limits": bench.limited_token(LIMITS)}
        worker = running.enter_context(bench.worker())
        rows = []
        for ask in (SHORT_JSON, STREAM):
            found = _compare(bench, worker, ask, tokens, redis)
            plain = found["without limits"][0]
            rows += [
                (ask.name, name, f"{rate:,.0f}", f"{cost:.0f}", f"{rate / plain:.2f}", f"{calls:.4f}")
                for name, (rate, cost, calls) in found.items()
            ]
        table(("one core", "", "requests/s", "CPU µs each", "of those without", "calls of Redis each"), rows)


def _compare(bench: Bench, worker: Any, ask: Ask, tokens: dict[str, str], redis: Any) -> dict[str, tuple[float, ...]]:
    """The medians by name: requests a second, µs of processor for one, and calls of Redis for one."""
    rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in tokens}
    for place in range(bench.rounds + 1):
        for name, token in tokens.items():
            seconds = bench.seconds if place else WARM_SECONDS
            bench.token = token
            before = _calls(redis)
            measured = bench.round(worker, ask, seconds)
            if place:
                calls = (_calls(redis) - before) / (measured.rate * seconds)
                rounds[name].append((measured.rate, measured.cost, calls))
    return {name: tuple(map(statistics.median, zip(*found, strict=True))) for name, found in rounds.items()}


def _calls(redis: Any) -> int:
    return int(redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


if __name__ == "__main__":
    main()
