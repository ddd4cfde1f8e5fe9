"""Holds: data_plane.http.app, data_plane.errors

What is refused before anything is sent, and how it is told.
"""

import time

import pytest

from gateway_core import snapshot, tokens
from gateway_core.snapshot import Rule, Scope, Step
from local.stand_in import StandIn
from tests.workers import Client, Running, SnapshotWriter, Tenant, name_of

KEY = "sk-first-0123456789abcdefghij"


async def test_no_access_key_an_unknown_one_and_a_malformed_one_are_401(client: Client):
    missing = await client.chat(None)
    unknown = await client.chat(tokens.generate(tokens.ACCESS_KEY_PREFIX))

    assert (missing.status, missing.code) == (401, "access_key_missing")
    assert missing.headers["www-authenticate"] == "Bearer"
    assert (unknown.status, unknown.code) == (401, "access_key_unknown")
    for malformed in ("x", "gwk_", "gwk_" + "é" * 46, tokens.generate(tokens.API_KEY_PREFIX), "\xff" * 10_000):
        assert (await client.chat(None, headers={"x-api-key": malformed})).status == 401


async def test_a_deleted_access_key_is_refused_at_once(worker: Running, alice: Tenant):
    alice.keys(KEY)
    token = alice.token()
    assert await worker.client.status(token) == 200

    await worker.reaches(alice.delete_token(token))

    answer = await worker.client.chat(token)
    assert (answer.status, answer.code) == (401, "access_key_unknown")


async def test_a_key_that_was_unknown_is_served_once_it_exists(worker: Running, alice: Tenant):
    alice.keys(KEY)
    token = alice.token(publish=False)
    assert await worker.client.status(token) == 401

    await worker.reaches(alice.publish({name_of(token): alice.token_document()}))

    assert await worker.client.status(token) == 200


async def test_expiry_and_disabling_are_judged_by_the_workers_own_clock(worker: Running, alice: Tenant):
    alice.keys(KEY)
    now = time.time_ns() // 1000
    expired = await worker.client.chat(alice.token(expires_at=now - 1))
    disabled = await worker.client.chat(alice.token(disabled=True))
    soon = alice.token(expires_at=now + 1_500_000)

    assert (expired.status, expired.code) == (401, "access_key_expired")
    assert (disabled.status, disabled.code) == (401, "access_key_disabled")
    assert await worker.client.status(soon) == 200
    time.sleep(1.6)  # noqa: ASYNC251 -- the worker has nothing to do meanwhile
    assert (await worker.client.chat(soon)).code == "access_key_expired"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("gpt-4oo", 404, "model_unknown"),
        ("opena:gpt-4o", 404, "provider_unknown"),
        ("anthropic:claude-sonnet-4-5", 404, "provider_not_allowed"),
        ("openai:gpt-4o-mini", 404, "model_not_allowed"),
        ("groq:anything", 404, "provider_not_allowed"),
    ],
)
async def test_a_policys_denial_is_told_with_its_code(
    client: Client, alice: Tenant, upstream: StandIn, model: str, status: int, code: str
):
    key = alice.keys(KEY)[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    scope = Scope(providers=("openai",), models=(("openai", "gpt-4o"),))
    token = alice.token(configuration=alice.configuration(rule, scope=scope))

    answer = await client.chat(token, model)

    assert (answer.status, answer.code) == (status, code)
    assert answer.json()["error"]["param"] == "model"
    assert not upstream.calls


async def test_an_unknown_name_is_told_with_the_nearest_known_ones(client: Client, alice: Tenant):
    answer = await client.chat(alice.token(), "gpt-4oo")

    assert "openai:gpt-4o" in answer.json()["error"]["message"]


async def test_a_surface_that_a_provider_lacks_is_refused_before_anything_is_sent(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)

    answer = await client.message(alice.token(), "openai:gpt-4o")

    assert answer.status == 404
    assert answer.json() == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "openai does not serve the messages API."},
        "request_id": answer.headers["request-id"],
    }
    assert answer.headers["gateway-error"] == "surface_not_served"
    assert not upstream.calls


async def test_without_any_credentials_a_request_is_refused(client: Client, alice: Tenant):
    answer = await client.chat(alice.token())

    assert (answer.status, answer.code) == (400, "no_credentials")


async def test_errors_on_messages_have_anthropics_form(client: Client):
    answer = await client.message(None)

    assert answer.status == 401
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b"\x00", 400),
        (b'{"model":"openai:gpt-4o","messages":"\x00"}', 400),
        (b'{"model":"openai:gpt-4o","messages":"\xff"}', 400),
        (b'\xef\xbb\xbf{"model":"openai:gpt-4o"}', 200),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"model":"openai:gpt-4o"}', 400),
        (b'{"\xef\xbb\xbfmodel":"openai:gpt-4o"}', 400),
        (b"\xef\xbb\xbf", 400),
        (b'{"model":"openai:gpt-4o","messages":"\\ud800"}', 400),
        (b'{"model":"\\udfff","messages":[]}', 400),
        (b'{"\\ud800":1,"model":"openai:gpt-4o"}', 400),
        (b'{"model":"openai:gpt\\u0000-4o"}', 400),
        (b'{"model":"openai:gpt\\n-4o"}', 400),
        (b'{"model":"openai:gpt-4o","messages":NaN}', 400),
        (b'{"model":"openai:gpt-4o"} x', 400),
        (b'{"model":"openai:gpt-4o","messages":' + b"[" * DEEP + b"]" * DEEP + b"}", 400),
        (b'{"model":"openai:gpt-4o","messages":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", 400),
        (b'{"model":"openai:gpt-4o","messages":' + b"[" * DEEP, 400),
        (b'{"model":' + b"[" * DEEP + b"]" * DEEP + b"}", 400),
        (b'{"messages":[]}', 400),
        (b'{"model":null}', 400),
        (b'{"model":""}', 400),
        (b'{"model":7}', 400),
        (b'{"model":{"a":1}}', 400),
        (b'{"models":[]}', 400),
        (b'{"models":"openai:gpt-4o"}', 400),
        (b'{"models":["openai:gpt-4o",7]}', 400),
        (b'{"models":[' + b'"a:b",' * 200 + b'"a:b"]}', 400),
        (b'{"model":"' + b"x" * 100_000 + b'"}', 400),
        (b'{"model":":","messages":[]}', 404),
        (b'{"model":"/","messages":[]}', 404),
        (b'{"model":"openai:","messages":[]}', 404),
        (b'{"models":["openai:gpt-4o"],"messages":[]}', 200),
        (b'{"model":"openai:gpt-4o","messages":[' + b'{"content":"[{"},' * 5000 + b"1]}", 200),
        (b'{"model":"openai:gpt-4o","messages":1e999999}', 200),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_bad_body_is_the_callers_fault_and_never_a_500(client: Client, alice: Tenant, raw: bytes, status: int):
    alice.keys(KEY)

    answer = await client.request("POST", "/v1/chat/completions", alice.token(), data=raw)

    assert answer.status == status
    if status != 200:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["code"]


async def test_a_body_over_32_mib_is_413_declared_or_not(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys(KEY)
    token = alice.token()
    large = b'{"model":"openai:gpt-4o","messages":"' + b"x" * (32 * 1024 * 1024) + b'"}'

    async def pieces():
        for start in range(0, len(large), 1024 * 1024):
            yield large[start : start + 1024 * 1024]

    declared = await client.request("POST", "/v1/chat/completions", token, data=large)
    chunked = await client.request("POST", "/v1/chat/completions", token, data=pieces())

    assert (declared.status, declared.code) == (413, "body_too_large")
    assert (chunked.status, chunked.code) == (413, "body_too_large")
    assert not upstream.calls


async def test_a_body_of_30_mib_passes(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys(KEY)

    assert await client.status(alice.token(), messages="x" * (30 * 1024 * 1024)) == 200
    assert len(upstream.calls[0].raw) > 30 * 1024 * 1024


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/v1/chat", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models", 401),
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
    ],
)
async def test_every_path_and_method_has_its_answer(client: Client, method: str, path: str, status: int):
    answer = await client.request(method, path)

    assert answer.status == status
    assert answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"]


async def test_a_worker_without_the_catalog_is_not_ready_until_it_is_there(make_worker, writer: SnapshotWriter):
    writer.redis.delete(writer.names.catalog)
    worker = await make_worker()
    before = await worker.client.get("/readyz")
    writer._versions.pop(snapshot.CATALOG)

    await worker.reaches(writer.catalog())

    assert (before.status, before.json()["snapshot"]["hasCatalog"]) == (503, False)
    assert (await worker.client.get("/readyz")).status == 200


async def test_probes_are_not_counted_as_requests(client: Client):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models"):
        await client.get(path)

    counted = [
        line
        for line in (await client.get("/metrics")).body.decode().splitlines()
        if line.startswith("gateway_requests_total")
    ]
    assert counted == ['gateway_requests_total{status="401"} 1.0']


async def test_nothing_of_a_denial_is_said_while_the_catalog_is_not_there(
    make_worker, writer: SnapshotWriter, alice: Tenant
):
    writer.redis.delete(writer.names.catalog)
    alice.keys(KEY)
    worker = await make_worker()
    token = alice.token()

    assert (await worker.client.chat(token, "gpt-4o")).status == 503
    assert (await worker.client.chat(token, "openai:gpt-4o")).status == 200


async def test_a_dangling_configuration_is_503_and_never_no_configuration(client: Client, alice: Tenant):
    alice.keys(KEY)
    token = alice.token(configuration="aigac_01h455vb4pex5vsknk084sn02q")

    answer = await client.chat(token)

    assert (answer.status, answer.code) == (503, "snapshot_unfit")
    assert answer.headers["retry-after"] == "1"


async def test_a_rule_that_names_a_missing_key_is_503(worker: Running, alice: Tenant):
    key = alice.keys(KEY)[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    token = alice.token(configuration=alice.configuration(rule))
    await worker.reaches(alice.publish({snapshot.provider_key_document(key): None}))

    assert (await worker.client.chat(token)).code == "snapshot_unfit"
