"""One request's attempts, and the keys that cool: which attempts are passed over, and what is learnt of those made.

Source: docs/decisions/0059-cooling.md.
"""

import time
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from data_plane.errors import TotalTimeout
from data_plane.forwarding.beginnings import Begun
from data_plane.forwarding.call import Running
from data_plane.forwarding.cooling import Cooled, Place
from data_plane.forwarding.exchange import RESPONSE_ID
from data_plane.forwarding.one_attempt import OneAttempt, shown_key
from data_plane.forwarding.outcomes import AttemptFailed, KeptElsewhere, NotSent, RequestRefused
from data_plane.forwarding.selection import arranged
from gateway_core.catalog import Surface
from gateway_core.plans import Attempt, KeySource, Plan, Strategy
from gateway_core.traces import COOLING, CoolingCause, PassedOver
from gateway_core.usage_events import fit_name

_MICROSECONDS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED: Final = 20
# A `prompt_cache_key` that names none.
_NOTHING: Final = frozenset({b"null", b'""'})
_CAUSES: Final = {
    CoolingCause.KEY_REFUSED: "the upstream refused the key",
    CoolingCause.RATE_LIMITED: "the upstream asked to wait",
    CoolingCause.FAILING: "most attempts failed",
}


class _Passed(NamedTuple):
    """An attempt that was not made."""

    attempt: Attempt
    cooled: Cooled
    # Microseconds since 1970.
    since: int


class Trials:
    """The attempts of one request."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._keys = running.shared.cooling.of(running.call.account.id)
        self._passed: list[_Passed] = []

    def order(self, plan: Plan) -> Sequence[Attempt]:
        """The attempts of a plan in the order of this request."""
        return arranged(plan, sticks_to=self._sticks_to, busy=self._keys.busy) if plan.groups else plan.attempts

    def _sticks_to(self) -> tuple[str, str | None]:
        call = self._running.call
        before = bytes(call.body.members.get("previous_response_id", b"")).strip().strip(b'"')
        cached = bytes(call.body.members.get("prompt_cache_key", b"null")).strip()
        text = call.access_key if cached in _NOTHING else cached.decode(errors="replace")
        return text, self._keys.made_by.get(before)

    def end(self, one: OneAttempt, begun: Begun) -> None:
        """An answer has ended, however it did."""
        attempt, key = one.attempt, one.attempt.provider_key
        self._keys.leave(key)
        if attempt.strategy is Strategy.STICKY and key is not None and self._running.call.surface is Surface.RESPONSES:
            found = RESPONSE_ID.search(begun.first)
            if found is not None:
                self._keys.remember(found[1], key)

    async def make(
        self, attempt: Attempt, *, is_last: bool, is_last_candidate: bool, is_settled: bool
    ) -> tuple[OneAttempt, Begun] | None:
        """Make an attempt, or pass it over because its key cools for its model.

        Args:
            attempt: of the plan.
            is_last: whether the plan ends with it. Then it is not passed over.
            is_last_candidate: whether no other candidate follows, so that a refusal of the request is the answer.
            is_settled: whether every other key that was asked does not know what the request goes on from.

        Returns:
            The attempt and the beginning of its answer, which is ended by `end`; None if it was passed over.

        Raises:
            AttemptFailed, TotalTimeout, NotCounted: as `OneAttempt`.
        """
        keys, clock = self._keys, self._running.shared.cooling.clock
        place = Place(attempt.provider, attempt.provider_key, attempt.model)
        # As it is now: a key that is rotated while the attempt runs is not to cool by it.
        about = self._about(attempt)
        began = clock()
        cooled = keys.check(place, about, began)
        if cooled is not None and not is_last:
            self._pass_over(attempt, cooled)
            return None
        exchange = self._running.exchange
        exchange.provider, exchange.model = attempt.provider, attempt.model
        keys.enter(attempt.provider_key)
        try:
            is_settled = is_settled and not self._passed
            one, begun = await self._begun(
                attempt, place, about, began, is_last_candidate=is_last_candidate, is_settled=is_settled
            )
        except BaseException:
            keys.leave(attempt.provider_key)
            raise
        return one, begun

    async def _begun(
        self,
        attempt: Attempt,
        place: Place,
        about: Hashable,
        began: float,
        *,
        is_last_candidate: bool,
        is_settled: bool,
    ) -> tuple[OneAttempt, Begun]:
        """Make an attempt, and learn of its key."""
        keys = self._keys
        try:
            one = OneAttempt(self._running, attempt)
            begun = await one.begin(is_last=is_last_candidate, is_settled=is_settled)
        except (RequestRefused, KeptElsewhere):
            keys.answered(place, began)
            raise
        except NotSent:
            keys.abandoned(place, began)
            raise
        except AttemptFailed as failed:
            keys.failed(place, about, means=failed.means, wait=failed.said.wait)
            raise
        except TotalTimeout:
            keys.failed(place, about, means=0, wait=None)
            raise
        except BaseException:
            keys.abandoned(place, began)
            raise
        keys.answered(place, began)
        return one, begun

    def _about(self, attempt: Attempt) -> Hashable:
        if attempt.source is KeySource.MANAGED:
            return self._running.shared.store.managed_seal(attempt.provider)
        snapshot = self._running.call.account.snapshot
        return snapshot.provider_keys.get(attempt.provider_key or ""), snapshot.providers.get(attempt.provider)

    def _pass_over(self, attempt: Attempt, cooled: Cooled) -> None:
        running = self._running
        ago = running.shared.cooling.clock() - cooled.since
        since = int((time.time() - ago) * _MICROSECONDS)
        self._passed.append(_Passed(attempt, cooled, since))
        running.shared.metrics.passed_over[cooled.cause].inc()
        running.usage.pass_over(
            PassedOver(
                provider=fit_name(attempt.provider),
                model=fit_name(attempt.model),
                provider_key=attempt.provider_key,
                reason=COOLING,
                cause=cooled.cause.value,
                since=since,
            )
        )

    # ── what the caller is told when all others failed ──

    @property
    def has_passed_over(self) -> bool:
        """Whether an attempt was passed over."""
        return bool(self._passed)

    @property
    def only_refused_keys(self) -> bool:
        """Whether trying again would not make an attempt that was passed over."""
        return all(one.cooled.cause is CoolingCause.KEY_REFUSED for one in self._passed)

    @property
    def wait(self) -> float | None:
        """The seconds until the first of those that an upstream asked to wait may be asked; None if there is none."""
        now = self._running.shared.cooling.clock()
        waits = [one.cooled.until - now for one in self._passed if one.cooled.cause is CoolingCause.RATE_LIMITED]
        return max(0.001, min(waits)) if waits else None

    def listed(self) -> str:
        """What was passed over and why, at most 20 of them; empty if nothing was."""
        if not self._passed:
            return ""
        listed = [self._told(one) for one in self._passed[:_LISTED]]
        if len(self._passed) > _LISTED:
            listed.append(f"and {len(self._passed) - _LISTED} more")
        return f" Passed over: {'; '.join(listed)}."

    def _told(self, one: _Passed) -> str:
        since = (_EPOCH + timedelta(microseconds=one.since)).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = shown_key(self._running, one.attempt)
        return (
            f"{one.attempt.provider}:{one.attempt.model} with {key}: cooling since {since}, {_CAUSES[one.cooled.cause]}"
        )
