"""What the attempts of one request share: the call, the worker's parts, the clock, and what was used."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from data_plane.forwarding.beside import Passing
from data_plane.forwarding.bodies import Body
from data_plane.forwarding.cooling import Cooling
from data_plane.forwarding.exchange import Exchange
from data_plane.forwarding.limits import estimated_input_tokens, most_output_tokens
from data_plane.forwarding.targets import Target, Targets
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.forwarding.upstream import Upstream
from data_plane.metrics import Metrics
from data_plane.settings import RequestLimits
from data_plane.state.held import HeldAccount
from data_plane.state.store import WorkerState
from data_plane.usage.attempt_record import Record, RequestUsage
from data_plane.usage.token_counting import asking_for_usage
from gateway_core.catalog import Surface
from gateway_core.sealing import Keyring

_LONGEST_TIER: Final = 64


class AttemptCall(NamedTuple):
    """What a caller asked for, as far as every attempt needs it."""

    account: HeldAccount
    # Its `aigk_…` ID, and the `aigac_…` ID of its configuration.
    access_key: str
    configuration: str | None
    surface: Surface
    body: Body
    query: bytes
    # The caller's headers that may pass.
    headers: dict[bytes, bytes]
    # Whether only its tokens are to be counted (data_plane.forwarding.token_counts).
    counts_tokens: bool = False
    # How many answers it asks for at most; only counted where they are capped.
    answers: int = 1
    # How many output tokens all of its answers may have together; None for no cap of ours.
    output_cap: int | None = None
    # A call beside the surfaces; None on one of them.
    passing: Passing | None = None

    @property
    def is_unmetered(self) -> bool:
        """Whether nothing of it is recorded."""
        return self.counts_tokens or (self.passing is not None and self.passing.is_unmetered)


class Machinery(NamedTuple):
    """What every request shares."""

    store: WorkerState
    keyring: Keyring
    targets: Targets
    upstream: Upstream
    metrics: Metrics
    loop_marker: bytes
    record_usage: Record
    limits: RequestLimits
    cooling: Cooling


class Running:
    """One request on its way through its plan."""

    __slots__ = (
        "call",
        "clock",
        "deadline",
        "exchange",
        "limit",
        "per_request",
        "sent",
        "shared",
        "stream_timeout",
        "usage",
        "usage_option",
    )

    def __init__(self, machinery: Machinery, call: AttemptCall, exchange: Exchange, limit: TimeLimit) -> None:
        settings = call.account.snapshot.settings
        self.shared = machinery
        self.call = call
        self.exchange = exchange
        self.limit = limit
        # Bytes of all bodies that went upstream.
        self.sent = 0
        # Seconds that an attempt may take to its first event, and from one chunk of a stream to the next.
        self.per_request = settings.per_request_timeout
        self.clock = limit.clock
        # Seconds that a stream may run from its first content on.
        self.stream_timeout = settings.stream_timeout
        # The time by that clock at which all attempts must have ended; of a running stream, the time of its own end.
        self.deadline = self.clock() + settings.total_timeout
        members = call.body.members
        # What to ask an OpenAI stream for, if its caller did not: its usage.
        self.usage_option = asking_for_usage(call.surface, members)
        self.usage = RequestUsage(
            machinery.record_usage,
            request_id=exchange.request_id,
            account=call.account.id,
            access_key=call.access_key,
            configuration=call.configuration,
            snapshot_version=call.account.snapshot.version,
            requested_model=call.body.requested[0],
            is_streaming=call.body.is_streaming,
            estimate_input=lambda: estimated_input_tokens(members),
            most_output=lambda: most_output_tokens(call.surface, members, settings.max_output_tokens),
            asked_tier=_tier_in(members),
        )

    @property
    def bound(self) -> float:
        """When the present step has to have ended."""
        return min(self.deadline, self.clock() + self.per_request)

    def asks_for_usage(self, target: Target) -> bool:
        """Whether the gateway asks for a stream's usage and its caller did not."""
        return self.usage_option is not None and target.takes_stream_options


def _tier_in(members: Mapping[str, msgspec.Raw]) -> object:
    """The service tier that a request names, if it is a text."""
    named = members.get("service_tier")
    if named is None or len(memoryview(named)) > _LONGEST_TIER:
        return None
    try:
        return msgspec.json.decode(named, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
