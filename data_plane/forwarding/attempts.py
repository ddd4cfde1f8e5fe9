"""The attempt machine: carries a plan out, one attempt after the other, until an answer has begun to go to the caller.

An attempt ends in one of three ways. It **answers**: its answer goes to the caller and nothing else is tried. It
**fails** (no connection, no content in time, 401, 402, 403, 408, 429, 5xx, a redirect, an error under a good status, or
one that means the key by the provider's dialect): the next attempt is made. It **refuses the request** (any other 4xx):
the next candidate is tried, or the refusal is the answer if there is none.

An attempt whose key cools is passed over, but for the last one (data_plane.forwarding.trials).

An answer without events is held back until it is whole, up to a limit, so that one that breaks off is a failure like
any other. A stream begins to pass with its first content; from then on it can only end well, or in an error event.

Source: contract, section 9; docs/decisions/0051-attempts.md, docs/decisions/0084-dialects.md.
"""

from typing import Final

from data_plane.errors import AttemptsFailed, GatewayError, KeysUnusable, RateLimited
from data_plane.forwarding.beginnings import close
from data_plane.forwarding.bodies import ClientLeft
from data_plane.forwarding.call import AttemptCall, Machinery, Running
from data_plane.forwarding.exchange import Exchange
from data_plane.forwarding.failure_log import log_failure
from data_plane.forwarding.one_attempt import shown_key
from data_plane.forwarding.outcomes import (
    KEY_STATUSES,
    AttemptFailed,
    Failure,
    KeptElsewhere,
    KeyUnusable,
    RequestRefused,
    listed_failures,
    shortest_wait,
)
from data_plane.forwarding.passing_on import relay
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.forwarding.trials import Trials
from gateway_core.catalog import Format, Surface
from gateway_core.plans import Attempt, KeySource, Plan
from gateway_core.traces import MOST_PASSED_OVER, PassedOver
from gateway_core.usage_events import fit_name

_RATE_LIMITED: Final = 429


class AttemptMachine:
    """One request's way through its plan."""

    def __init__(self, machinery: Machinery, call: AttemptCall, exchange: Exchange, limit: TimeLimit) -> None:
        self._running = Running(machinery, call, exchange, limit)
        self._exchange = exchange
        self._trials = Trials(self._running)
        self._failures: list[Failure] = []
        self._unusable = 0
        self._elsewhere = 0

    async def run(self, plan: Plan) -> None:
        """Answer the caller by the first attempt that answers, and record the usage of all.

        Raises:
            GatewayError: none did, or the answer broke off; nothing more may be sent but this error.
        """
        for skipped in plan.skipped[:MOST_PASSED_OVER]:
            self._running.usage.pass_over(
                PassedOver(
                    provider=fit_name(skipped.provider or ""),
                    model=fit_name(skipped.model or skipped.requested),
                    reason=skipped.code.value,
                )
            )
        try:
            await self._answer_by(plan)
        finally:
            self._running.usage.close(has_left=self._exchange.has_left)

    async def _answer_by(self, plan: Plan) -> None:
        exchange, running = self._exchange, self._running
        metrics = running.shared.metrics
        attempts = self._trials.order(plan)
        last = attempts[-1]
        refused_candidate = -1
        for attempt in attempts:
            if attempt.candidate == refused_candidate:
                continue
            if exchange.has_left:
                raise ClientLeft
            exchange.reads_on = attempt.source is KeySource.MANAGED
            if exchange.attempts >= running.shared.limits.attempts:
                break
            if exchange.attempts and running.sent + running.call.body.length > running.shared.limits.upstream_bytes:
                raise self._exhausted(f"one request may send {running.shared.limits.upstream_bytes} bytes upstream")
            try:
                made = await self._trials.make(
                    attempt,
                    is_last=attempt is last,
                    is_last_candidate=attempt.candidate == last.candidate,
                    is_settled=attempt is last and self._elsewhere == len(self._failures),
                )
            except AttemptFailed as failed:
                self._note(attempt, failed)
                if isinstance(failed, RequestRefused):
                    refused_candidate = attempt.candidate
                continue
            if made is None:
                continue
            one, begun = made
            metrics.attempts["answered"] += 1
            try:
                await relay(begun, one)
            finally:
                close(begun.response)
                self._trials.end(one, begun)
            return
        raise self._exhausted(f"one request may make {running.shared.limits.attempts}" if plan.is_cut else "")

    def _note(self, attempt: Attempt, failed: AttemptFailed) -> None:
        key = shown_key(self._running, attempt)
        self._failures.append(Failure(attempt.provider, attempt.model, key, failed.status, failed.means, failed.said))
        self._unusable += isinstance(failed, KeyUnusable)
        self._elsewhere += isinstance(failed, KeptElsewhere)
        self._running.shared.metrics.attempts["failed"] += 1
        log_failure(
            request_id=self._exchange.request_id,
            account=self._running.call.account.id,
            provider=attempt.provider,
            reason=failed.status,
        )

    def _exhausted(self, bound: str) -> GatewayError:
        """The error for attempts that all failed.

        Args:
            bound: the bound that kept further attempts from being made; "" where every attempt of the plan was made.
        """
        failures = self._failures
        self._running.usage.is_exhausted = not bound
        passed = self._trials
        if len(failures) == self._unusable and not passed.has_passed_over:
            return KeysUnusable()
        wait = min((one for one in (shortest_wait(failures), passed.wait) if one is not None), default=None)
        limits = next((one.said.limits for one in reversed(failures) if one.said.limits), [])
        if all(failure.means == _RATE_LIMITED for failure in failures):
            message = listed_failures(RateLimited.__doc__, failures) + passed.listed()
            return RateLimited(message, retry_after=1 if wait is None else wait, headers=limits)
        told = listed_failures(AttemptsFailed.__doc__, failures) + passed.listed()
        return AttemptsFailed(
            f"{told} Other attempts were not made: {bound}." if bound else told,
            retry_after=wait,
            headers=limits,
            by_keys=passed.only_refused_keys and all(failure.means in KEY_STATUSES for failure in failures),
        )


def format_of(surface: Surface) -> Format:
    """Whose format a surface's answers and errors have."""
    return Format.ANTHROPIC if surface is Surface.MESSAGES else Format.OPENAI
