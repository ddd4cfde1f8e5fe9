"""Holds: data_plane.forwarding.governed, data_plane.forwarding.bodies, data_plane.forwarding.limits

Whatever a body looks like, upstreams in Go, Python, JavaScript, Rust, C, .NET and Java obey what was judged.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from data_plane.errors import BadRequest, NotServed
from data_plane.forwarding import headers
from data_plane.forwarding.bodies import Body, parse, parse_in_steps
from data_plane.forwarding.governed import check_routing
from data_plane.forwarding.limits import check_output, lowered_maxima
from data_plane.turns import Turns
from data_plane.usage.token_counting import asking_for_usage
from gateway_core import ids
from gateway_core.account_snapshot import AccountSnapshot, snapshot_of
from gateway_core.catalog import Catalog, ModelsDocument, Surface
from gateway_core.plans import Denial
from gateway_core.policy import resolve
from gateway_core.snapshot import (
    SETTINGS_DOCUMENT,
    ConfigurationDocument,
    ProviderDocument,
    Scope,
    SettingsDocument,
    SurfaceSupport,
    configuration_document,
    provider_document,
)
from local.stand_in import StandIn
from tests.hostile.data_plane.readers import CAP, HARMLESS, READERS, Bodies, obeyed, written, wsgi
from tests.steps import result_of
from tests.tiers import number
from tests.workers import Running, Tenant, new_id

CHAT = Surface.CHAT_COMPLETIONS
BODIES = number(3_000, full=200_000)
SEEDS = 10


@pytest.fixture(scope="module")
def account() -> tuple[AccountSnapshot, str]:
    """An account whose configuration allows one model of one custom provider; and that configuration."""
    configuration = new_id(ids.Prefix.CONFIGURATION)
    mine = ProviderDocument(
        id=new_id(ids.Prefix.PROVIDER),
        name="mine",
        base_url="http://mine.internal/v1",
        surfaces=(SurfaceSupport(CHAT),),
        models=("small", "forbidden"),
    )
    documents = [
        (SETTINGS_DOCUMENT, SettingsDocument(max_output_tokens=CAP)),
        (provider_document("mine"), mine),
        (configuration_document(configuration), ConfigurationDocument(scope=Scope(models=(("mine", "small"),)))),
    ]
    return snapshot_of(new_id(ids.Prefix.ACCOUNT), 1, documents), configuration


CATALOG = Catalog(ModelsDocument(providers={}))


def forwarded(
    raw: bytes, account: AccountSnapshot, configuration: str, read: Callable[[bytes], Body] = parse
) -> tuple[bytes, bool] | None:
    """What the worker sends for a body, and whether it takes it for a stream; None where it refuses it."""
    turns = Turns()
    try:
        body = read(raw)
        plan = resolve(account, CATALOG, configuration=configuration, requested=body.requested, surface=CHAT)
        if isinstance(plan, Denial):
            return None
        result_of(check_routing(body.members, plan, account, configuration, turns))
        answers = result_of(check_output(CHAT, body, CAP, turns))
    except (BadRequest, NotServed):
        return None
    changes = lowered_maxima(CHAT, body.members, CAP, answers, provider="mine", parameters=None)
    if (option := asking_for_usage(CHAT, body.members)) is not None:
        changes["stream_options"] = option
    return b"".join(body.forwarded(plan.attempts[0].model, None, changes)), body.is_streaming


def read_in_steps(raw: bytes) -> Body:
    """A body as long ones are read."""
    return result_of(parse_in_steps(raw))


def disobedience(sent: bytes, *, is_streaming: bool) -> list[str]:
    """What some upstream would do that was not judged."""
    body = written(sent)
    found = []
    for reader in READERS:
        done = obeyed(reader, body)
        if done is None:
            continue
        if done.models != {"small"}:
            found.append(f"{reader.name} runs {sorted(done.models)}")
        if not all(most > 0 and most * done.answers <= CAP for most in done.maxima) or not done.maxima:
            found.append(f"{reader.name} writes {done.answers} times {done.maxima}")
        if done.is_streaming is not is_streaming:
            found.append(f"{reader.name} streams: {done.is_streaming}")
        if done.routes:
            found.append(f"{reader.name} routes by {sorted(done.routes)}")
    return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_upstream_obeys_what_was_not_judged(account: tuple[AccountSnapshot, str], seed: int):
    bodies, seen = Bodies(seed), Counter[str]()
    for _ in range(BODIES // SEEDS):
        raw = bodies.make()
        result = forwarded(raw, *account)
        # Long bodies are read in slices. What is judged and sent is the same.
        assert forwarded(raw, *account, read_in_steps) == result, raw
        if result is None:
            seen["refused"] += 1
            continue
        seen["forwarded"] += 1
        sent, is_streaming = result
        assert disobedience(sent, is_streaming=is_streaming) == [], raw
        passed = headers.for_provider(headers.upstream(bodies.headers(), b"gwk_0"), "mine")
        assert wsgi(passed) <= HARMLESS

    # What is refused always, and what is never tried, would hold too.
    assert seen["forwarded"] > BODIES // SEEDS // 10
    assert seen["refused"] > BODIES // SEEDS // 10


def test_the_readers_would_obey_such_bodies_if_they_passed_as_they_came():
    bodies, seen = Bodies(0), Counter[str]()
    for _ in range(500):
        try:
            read = written(bodies.make())
        except ValueError:
            continue
        for reader in READERS:
            done = obeyed(reader, read)
            if done is not None and (len(done.models) > 1 or done.routes or any(most > CAP for most in done.maxima)):
                seen[reader.name] += 1

    assert set(seen) == {reader.name for reader in READERS}


async def test_a_worker_sends_what_its_parts_said(worker: Running, alice: Tenant, upstream: StandIn):
    alice.provider("mine", upstream.url, models=("small", "forbidden"))
    token = alice.token(configuration=alice.configuration(scope=Scope(models=(("mine", "small"),))))
    await worker.reaches(alice.settings(max_output_tokens=CAP))
    bodies, statuses = Bodies(99), Counter[int]()

    for _ in range(number(100, full=1000)):
        raw: Any = bodies.make()
        upstream.calls.clear()
        answer = await worker.client.chat(token, raw=raw)
        statuses[answer.status] += 1
        assert len(upstream.calls) == (answer.status == 200), raw
        for call in upstream.calls:
            is_streaming = answer.headers["content-type"].startswith("text/event-stream")
            assert disobedience(call.raw, is_streaming=is_streaming) == [], raw

    assert set(statuses) <= {200, 400, 404}
    assert statuses[200] > 10
