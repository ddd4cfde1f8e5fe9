"""Holds: data_plane.forwarding.targets

Managed inference: the operator's own key, for accounts that have credits, for models that have a price.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway_core import snapshot
from gateway_core.sealing import managed_binding
from gateway_core.snapshot import CATALOG, ManagedKeysDocument, Rule, Step
from local.stand_in import StandIn
from tests.patience import eventually
from tests.workers import MODELS, Client, Running, SnapshotWriter, Tenant

OPERATORS = "sk-operator-0123456789abcdefghij"
OWN = "sk-own-0123456789abcdefghijkl"
MANAGED = Step(type="ngrok")


@pytest.fixture
def rich(writer: SnapshotWriter, alice: Tenant) -> Tenant:
    """An account with credits, where the operator has a key for OpenAI."""
    writer.managed(openai=OPERATORS)
    alice.settings(has_credits=True)
    return alice


async def test_a_key_without_a_configuration_is_served_with_the_operators_key(
    client: Client, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    answer = await client.chat(rich.token(), "gpt-4o")

    assert answer.status == 200
    assert upstream.keys == [OPERATORS]
    assert OPERATORS not in answer.body.decode() + str(answer.headers)
    (told,) = await writer.usage_of(1)
    assert (told.key_source, told.provider_key, told.mask, told.input_tokens) == ("ngrok", None, None, 11)


async def test_own_keys_come_first_and_managed_inference_after_them(client: Client, rich: Tenant, upstream: StandIn):
    rich.keys("sk-demo-429-0123456789abcdef")

    assert await client.status(rich.token()) == 200
    assert upstream.keys == ["sk-demo-429-0123456789abcdef", OPERATORS]


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("openai:gpt-4o", 403, "no_credits"),
        ("openai:uncatalogued", 400, "no_credentials"),
        ("anthropic:claude-sonnet-4-5", 400, "no_credentials"),
        ("groq:some-model", 400, "no_credentials"),
    ],
)
async def test_what_managed_inference_does_not_serve_is_refused_with_its_reason(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter, model: str, status: int, code: str
):
    writer.managed(openai=OPERATORS)
    alice.settings(has_credits=code != "no_credits")

    answer = await client.chat(alice.token(), model)

    assert (answer.status, answer.code) == (status, code)
    assert upstream.calls == []


async def test_without_credits_managed_steps_are_skipped_and_own_keys_serve(
    worker: Running, rich: Tenant, upstream: StandIn
):
    (key,) = rich.keys(OWN)
    steps = (MANAGED, Step(type="user", keys=(key,)))
    token = rich.token(configuration=rich.configuration(Rule(provider="openai", steps=steps)))
    assert await worker.client.status(token) == 200

    await worker.reaches(rich.settings(has_credits=False))
    assert await worker.client.status(token) == 200
    await worker.reaches(rich.settings(has_credits=True))
    assert await worker.client.status(token) == 200

    assert upstream.keys == [OPERATORS, OWN, OPERATORS]


async def test_a_new_operators_key_is_used_at_once_and_a_removed_one_no_more(
    worker: Running, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    token = rich.token()
    assert await worker.client.status(token) == 200

    await worker.reaches(writer.managed(openai="sk-operators-second-0123456789"))
    assert await worker.client.status(token) == 200
    await worker.reaches(writer.managed())
    refused = await worker.client.chat(token)

    assert (refused.status, refused.code) == (400, "no_credentials")
    assert upstream.keys == [OPERATORS, "sk-operators-second-0123456789"]


async def test_a_sealed_key_moved_from_another_provider_is_not_used(
    worker: Running, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    sealed = writer.sealing_key.seal("sk-ant-operators-0123456789", managed_binding("anthropic"))
    number = writer.publish(
        CATALOG,
        {snapshot.MODELS_DOCUMENT: MODELS, snapshot.MANAGED_DOCUMENT: ManagedKeysDocument(keys={"openai": sealed})},
    )
    await worker.reaches(number)
    token = rich.token()

    answers = [await worker.client.chat(token) for _ in range(2)]

    assert {(one.status, one.code) for one in answers} == {(503, "keys_unusable")}
    assert upstream.calls == []
    assert worker.store.refusals == 1
    assert worker.store.last_refusals[0].location == "{gw}:catalog managed"


async def test_an_accounts_own_blob_is_no_operators_key(
    worker: Running, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    (key,) = rich.keys(OWN)
    blob = rich.key_document(key, OWN).sealed
    documents = {
        snapshot.MODELS_DOCUMENT: MODELS,
        snapshot.MANAGED_DOCUMENT: ManagedKeysDocument(keys={"openai": blob}),
    }
    await worker.reaches(writer.publish(CATALOG, documents))
    rule = Rule(provider="openai", steps=(MANAGED,))

    answer = await worker.client.chat(rich.token(configuration=rich.configuration(rule)))

    assert (answer.status, answer.code) == (503, "keys_unusable")
    assert upstream.calls == []


async def test_the_older_document_of_managed_keys_put_back_changes_nothing(
    worker: Running, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    token = rich.token()
    assert await worker.client.status(token) == 200
    old = writer.redis.hgetall(writer.names.catalog)
    await worker.reaches(writer.managed(openai="sk-operators-second-0123456789"))

    writer.redis.hset(writer.names.catalog, mapping=old)
    writer.begin_epoch()
    await eventually(lambda: worker.store.epoch == writer.epoch and worker.store.refusals >= 1)

    assert await worker.client.status(token) == 200
    assert upstream.keys[-1] == "sk-operators-second-0123456789"


async def test_the_operators_organisation_is_not_the_callers_to_choose(client: Client, rich: Tenant, upstream: StandIn):
    chosen = {"openai-organization": "org-mine", "openai-project": "proj-mine"}

    assert (await client.chat(rich.token(), headers=chosen)).status == 200

    assert not set(chosen) & {name.lower() for name in upstream.calls[0].headers}


async def test_a_stream_without_usage_is_still_charged(
    client: Client, rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    """An upstream that tells nothing must not make the operator's key a free one."""
    body = {"model": "gpt-4o", "stream": True, "input": "x" * 35}

    answer = await client.request("POST", "/v1/responses", rich.token(), data=msgspec.json.encode(body))

    assert answer.status == 200
    (told,) = await writer.usage_of(1)
    assert told.input_tokens == 10
    assert told.output_tokens >= 5


async def test_a_managed_answer_that_repeats_the_key_loses_it(client: Client, alice: Tenant, writer: SnapshotWriter):
    writer.managed(openai="sk-demo-echo-0123456789abcdef")
    alice.settings(has_credits=True)

    answer = await client.chat(alice.token())

    assert answer.status == 400
    assert b"sk-demo-echo" not in answer.body


async def test_managed_keys_are_loaded_by_a_worker_that_starts_later(
    make_worker: Callable[..., Any], rich: Tenant, upstream: StandIn
):
    rich.token()
    late: Running = await make_worker()

    assert await late.client.status(rich.token()) == 200
    assert upstream.keys == [OPERATORS]


async def test_an_entry_that_a_load_of_the_catalog_already_held_is_no_replay(worker: Running, writer: SnapshotWriter):
    number = writer.managed(openai="sk-operators-0123456789abcdef")
    await worker.reaches(number)
    (_, fields), *_ = writer.redis.xrevrange(writer.names.changes, count=1)
    store = worker.store
    store.install_catalog({}, position=number + 1)

    store.pass_entry(number + 1, CATALOG, fields[b"change"])
    assert store.refusals == 0

    store.pass_entry(number + 2, CATALOG, fields[b"change"])
    assert store.refusals == 1
