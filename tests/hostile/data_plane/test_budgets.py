"""Holds: data_plane.forwarding.budget, data_plane.forwarding.bodies, data_plane.state.held, data_plane.watchdog

The costliest requests and accounts that were found: each is refused by name or bounded, and keeps nobody waiting.
"""

import time
from collections.abc import Callable, Generator
from random import Random
from typing import Any

import msgspec
import pytest

from data_plane.errors import GatewayError, TooManyMembers, TooManyModels
from data_plane.forwarding.bodies import Body, parse, parse_in_steps
from data_plane.forwarding.json_slices import LONG
from data_plane.forwarding.limits import check_output, lowered_maxima
from data_plane.settings import RequestLimits
from data_plane.state.documents import Versioned
from data_plane.state.held import HeldAccount
from data_plane.turns import Turns
from data_plane.usage.token_counting import asking_for_usage
from gateway_core.catalog import Catalog, Surface
from gateway_core.plans import Plan
from gateway_core.snapshot import ProviderDocument, ProviderKeyDocument, SurfaceSupport, provider_document
from gateway_core.usage_events import MOST_RECORDED_ATTEMPTS
from local.stand_in import StandIn
from providers.catalog import build_models_document
from tests.hostile.data_plane.shapes import SHAPES
from tests.steps import result_of
from tests.tiers import number
from tests.workers import Tenant

KEY = "sk-first-0123456789abcdefghij"
CHAT = Surface.CHAT_COMPLETIONS
MIB = 1024 * 1024


def seconds_of(call: Callable[[], Any]) -> float:
    """The processor time of a call, the best of three: other work on the machine does not count."""
    times = []
    for _ in range(3):
        begin = time.thread_time()
        call()
        times.append(time.thread_time() - begin)
    return min(times)


def members(count: int) -> bytes:
    """A body with so many members that nobody knows."""
    return b'{"model":"x",' + b",".join(b'"%x":1' % one for one in range(count)) + b"}"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (members(2_400_000), TooManyMembers),
        (members(1_001), TooManyMembers),
        (members(60_000), TooManyMembers),
        (msgspec.json.encode({"models": [f"m{one}" for one in range(17)]}), TooManyModels),
        (msgspec.json.encode({"models": ["m"] * MIB}), TooManyModels),
    ],
    ids=["millions of members", "1,001 members", "60,000 members", "17 names", "a million names"],
)
def test_a_body_over_a_bound_is_refused_by_its_name(body: bytes, error: type[Exception]):
    with pytest.raises(error):
        read(body)


def read(raw: bytes) -> Body:
    """A body as the worker reads it."""
    return parse(raw) if len(raw) <= LONG else result_of(parse_in_steps(raw))


@pytest.mark.parametrize("padding", [0, 1_000_000], ids=["short", "long"])
def test_a_long_body_says_the_same_as_a_short_one(padding: int):
    members = {"model": "gpt-4o", "messages": [{"content": "x" * padding}], "stream": True, "n": None, "user": "u"}
    for extra in ({}, {"vendors_own": [1, 2]}):
        body = read(msgspec.json.encode(members | extra))
        sent = b"".join(body.forwarded("small", None))

        assert {name: msgspec.json.decode(value) for name, value in body.members.items()} == members | extra
        assert body.requested == ("gpt-4o",)
        assert msgspec.json.decode(sent) == members | extra | {"model": "small"}


BODIES = dict.fromkeys(SHAPES, '{"model":"x","messages":%s}') | {
    f"{name} of {shape}": f'{{"model":"x","messages":[],"{name}":%s}}'
    for name in ("model", "models", "stream", "n", "max_tokens", "user")
    for shape in ("text", "lists", "long numbers")
}


@pytest.mark.parametrize("kind", BODIES)
def test_no_step_of_reading_a_long_body_takes_long(kind: str):
    value = SHAPES[kind.rpartition(" of ")[2]](number(1, full=31) * MIB)
    raw = BODIES[kind].encode() % value
    assert any(longest_step(raw) < 0.005 for _ in range(5))


def longest_step(raw: bytes) -> float:
    """The longest step from a body's bytes to what is sent upstream, in seconds of processor time."""
    longest = 0.0

    def judged() -> Generator[None, None, None]:
        body = yield from parse_in_steps(raw)
        yield
        answers = yield from check_output(CHAT, body, 1000, Turns()).__await__()
        yield
        changes = lowered_maxima(CHAT, body.members, 1000, answers, provider="openai", parameters=None)
        asking_for_usage(CHAT, body.members)
        body.forwarded("small", None, changes)

    steps = judged()
    while True:
        begin = time.thread_time()
        try:
            next(steps)
        except (StopIteration, GatewayError):
            return max(longest, time.thread_time() - begin)
        longest = max(longest, time.thread_time() - begin)


def test_a_hundred_anagrams_of_known_names_cost_one_look_up_of_suggestions():
    catalog = Catalog(build_models_document(), version=1)
    known = [model.id for model in catalog.models("openai")]
    random = Random(1)
    names = tuple("".join(random.sample(known[one], len(known[one]))) + "q" for one in range(16))
    account = HeldAccount("ac_x")

    def ask() -> None:
        account._forget()
        account.resolve(catalog, None, names, CHAT)
        catalog.nearest_models(names[0] * 20)

    assert seconds_of(ask) < 0.01


def test_an_account_of_20000_keys_and_100_models_plans_no_more_than_the_bound():
    key = ProviderKeyDocument(provider="mine", mask="m", sealed=b"")
    provider = ProviderDocument(
        id="aigp_01h455vb4pex5vsknk084sn02q",
        name="mine",
        base_url="http://x",
        surfaces=(SurfaceSupport(CHAT),),
        models=tuple(f"m{one}" for one in range(5_000)),
    )
    documents = {f"providerKey:{one:06}": Versioned(1, key) for one in range(20_000)}
    account = HeldAccount("ac_x")
    catalog = Catalog(build_models_document(), version=1)
    begin = time.thread_time()
    account.take(1, documents | {provider_document("mine"): Versioned(1, provider)})
    assert time.thread_time() - begin < 1

    def plan() -> Plan:
        account._forget()
        outcome = account.resolve(catalog, None, tuple(f"mine:m{one}" for one in range(16)), CHAT)
        assert isinstance(outcome, Plan)
        return outcome

    assert len(plan().attempts) == RequestLimits().attempts
    assert seconds_of(plan) < 0.005


def test_remembered_plans_have_a_bound_of_bytes():
    account, catalog = HeldAccount("ac_x"), Catalog(build_models_document(), version=1)
    for one in range(3_000):
        account.resolve(catalog, None, (f"{one}" + "\U0001f600" * 498,), CHAT)

    assert len(account._plans) < 500


def test_no_number_of_attempts_is_allowed_that_usage_cannot_record():
    assert RequestLimits().attempts <= MOST_RECORDED_ATTEMPTS


async def test_requests_in_flight_of_one_key_are_bounded_and_others_are_served(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn
):
    limits = RequestLimits(requests_per_key=1, body_bytes_per_account=1_000)
    worker = await make_worker(request_limits=limits)
    token, other = alice.routed(KEY), alice.routed(KEY)

    long = await worker.client.chat(token, user="x" * 1_000)
    assert (long.status, long.headers["gateway-error"]) == (429, "bodies_in_flight")
    assert long.headers["retry-after"] == "1"
    assert (await worker.client.chat(other)).status == 200
    assert (await worker.client.chat(token)).status == 200
    assert len(upstream.calls) == 2
    assert worker.worker.app._budget.worker.requests == 0


async def test_attempts_end_at_the_bound_and_the_answer_names_it(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn
):
    worker = await make_worker(request_limits=RequestLimits(attempts=2))
    token = alice.routed(*(f"sk-500-{one}-0123456789abcdefghij" for one in range(4)))

    answer = await worker.client.chat(token)

    assert answer.status == 502
    assert "one request may make 2" in answer.json()["error"]["message"]
