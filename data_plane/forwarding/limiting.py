"""What a request may use of its limits at most, and what its caller is shown of them.

Source: docs/decisions/0120-limits.md.
"""

import math
import time
from typing import Final

from data_plane.forwarding.bodies import Body
from data_plane.forwarding.headers import Headers
from data_plane.forwarding.limits import estimated_input_tokens, own_maximum
from data_plane.forwarding.text_counting import CHARACTERS_PER_TOKEN
from data_plane.limits.admission import Admission, Admitter, Need, Record
from data_plane.limits.held_limits import HeldLimit, limits_of
from data_plane.limits.prices import most_of
from data_plane.limits.refusals import LimitExceeded, ModelUnpriced
from data_plane.limits.shares import Shares
from data_plane.state.held import HeldToken
from gateway_core.catalog import Catalog, Surface
from gateway_core.limits.limit import Counts, Measure, Used, does_count
from gateway_core.limits.windows import NEVER
from gateway_core.plans import Attempt, Plan

_SECOND: Final = 1_000_000
# A shorter body is not taken apart: each of its bytes is taken for a character.
_SHORT: Final = 4096
_QUEUE: Final = b"gateway-queue"
# More than any model says.
MOST_OUTPUT_TOKENS: Final = 1_000_000_000
_SHOWN: Final = {Measure.REQUESTS: b"requests", Measure.TOKENS: b"tokens"}


class Limiting:
    """Judges requests whose access key or account has limits."""

    def __init__(self, shares: Shares, *, output_tokens: int, longest_queue: float, allows_without_redis: bool) -> None:
        """
        Args:
            shares: of the worker.
            output_tokens: how many output tokens a request may have that names no maximum.
            longest_queue: for how many seconds a request may wait for a place at most.
            allows_without_redis: whether a request passes whose limits nobody can judge.
        """
        self._shares = shares
        self._admitter = Admitter(shares, allows_without_redis=allows_without_redis)
        self._output_tokens = output_tokens
        self._longest_queue = longest_queue

    @staticmethod
    def depends_on_output(token: HeldToken, surface: Surface) -> bool:
        """Whether a limit holds that depends on how long the answers become."""
        return surface is not Surface.EMBEDDINGS and any(held.counts_tokens for held in limits_of(token))

    def output_cap(self, body: Body, answers: int, account_cap: int | None) -> int:
        """How many output tokens all answers of a request may have together.

        Args:
            body: the request's; its own maximum holds for each answer.
            answers: how many it asks for.
            account_cap: of its account's settings.
        """
        cap = min(own_maximum(body.members) * answers, MOST_OUTPUT_TOKENS) or self._output_tokens
        return cap if account_cap is None else min(cap, account_cap)

    async def admit(
        self,
        token: HeldToken,
        body: Body,
        plan: Plan,
        catalog: Catalog,
        record: Record,
        *,
        output_cap: int | None,
        headers: Headers,
    ) -> tuple[Admission, Plan]:
        """Reserve what a request may use.

        Args:
            token, body, plan, catalog: the request's.
            record: takes its usage events.
            output_cap: as `output_cap` answered.
            headers: of the request.

        Returns:
            What was reserved, and the plan without the attempts that a limit does not let through.

        Raises:
            LimitExceeded, ModelUnpriced, LimitsUnknown: no attempt may be made.
        """
        limits = limits_of(token)
        tokens = _input_tokens(body) if any(held.counts_tokens for held in limits) else 0
        attempts = plan.attempts
        refusal: LimitExceeded | ModelUnpriced | None = None
        while attempts:
            try:
                needs = self._needs(limits, attempts, catalog, tokens, output_cap or 0)
            except _Unpriced as unpriced:
                refusal = ModelUnpriced()
                attempts = tuple(one for one in attempts if _place(one) != _place(unpriced.attempt))
                continue
            admission = Admission(self._shares, catalog, record)
            try:
                await self._admitter.admit(admission, needs, queue=self._queue(headers))
            except LimitExceeded as exceeded:
                refusal = exceeded
                attempts = tuple(one for one in attempts if not _is_counted(exceeded.counts, one))
            else:
                return admission, plan if attempts is plan.attempts else plan.of(attempts)
        assert refusal is not None  # noqa: S101 -- a plan has an attempt
        raise refusal

    @staticmethod
    def _needs(
        limits: tuple[HeldLimit, ...], attempts: tuple[Attempt, ...], catalog: Catalog, tokens: int, output_cap: int
    ) -> list[Need]:
        most: dict[tuple[str, str], Used] = {}
        needs = []
        moment = int(time.time())
        for held in limits:
            counts = held.counts
            counted = attempts if counts is None else [one for one in attempts if _is_counted(counts, one)]
            if not counted:
                continue
            if held.measure is Measure.COST:
                amount = 0
                for one in counted:
                    if (used := most.get(_place(one))) is None:
                        used = most[_place(one)] = Used(most_of(catalog, one, tokens, output_cap, moment))
                    if not used.cost and held.is_enforced:
                        raise _Unpriced(one)
                    amount = max(amount, used.cost)
            else:
                amount = Used(0, tokens, output_cap, 1).of(held.measure)
            needs.append(Need(held, amount))
        return needs

    def _queue(self, headers: Headers) -> float:
        for name, value in headers:
            if name == _QUEUE:
                try:
                    seconds = float(value)
                except ValueError:
                    return 0.0
                # "nan" is a number to float, and not above zero.
                return min(seconds, self._longest_queue) if seconds > 0 else 0.0
        return 0.0

    def shown(self, admission: Admission) -> Headers:
        """The headers that show a caller what is left of its access key's limits.

        Source: draft-ietf-httpapi-ratelimit-headers-10; OpenAI's `x-ratelimit-*`.
        """
        policies, states, headers = [], [], []
        now = self._shares.now()
        tightest: dict[bytes, tuple[int, int, float]] = {}
        for share, held in admission.shares:
            if not held.is_of_key or not held.is_enforced or held.measure is Measure.COST or share.left is None:
                continue
            amount, left = held.limit.amount_at(now), share.left
            seconds = 60.0 if share.kind == "r" else (share.end - now) / _SECOND
            name, unit = held.shown_name, held.unit
            length = 60 if share.kind == "r" else share.end // _SECOND - share.name.start
            has_window = share.kind == "r" or share.end != NEVER
            window, reset = (b";w=%d" % length, b";t=%d" % math.ceil(seconds)) if has_window else (b"", b"")
            policies.append(b'"%s";q=%d%s%s' % (name, amount, unit, window))
            states.append(b'"%s";r=%d%s' % (name, left, reset))
            shown = _SHOWN.get(held.measure)
            if shown is not None and has_window and (shown not in tightest or left < tightest[shown][1]):
                tightest[shown] = amount, left, seconds
        if policies:
            headers += [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(states))]
        for shown, (amount, left, seconds) in tightest.items():
            headers += [
                (b"x-ratelimit-limit-" + shown, b"%d" % amount),
                (b"x-ratelimit-remaining-" + shown, b"%d" % left),
                (b"x-ratelimit-reset-" + shown, b"%.3fs" % seconds),
            ]
        return headers


class _Unpriced(Exception):
    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        super().__init__()


def _place(attempt: Attempt) -> tuple[str, str]:
    return attempt.provider, attempt.model


def _is_counted(counts: Counts | None, attempt: Attempt) -> bool:
    return does_count(counts, provider=attempt.provider, model=attempt.model, key_source=attempt.source.value)


def _input_tokens(body: Body) -> int:
    if body.length <= _SHORT:
        return math.ceil(body.length / CHARACTERS_PER_TOKEN)
    return estimated_input_tokens(body.members)
