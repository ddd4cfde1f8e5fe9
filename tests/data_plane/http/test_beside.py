"""Holds: data_plane.http.beside, data_plane.forwarding.beside, gateway_core.kept_policy

Pictures, speech, moderation, reranking, files, batches and stored responses pass as they came, under the same access
scope, by the account's own keys alone.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import FormData, web
from redis import Redis

from data_plane.errors import BodyInvalid, ModelInvalid
from data_plane.forwarding.beside import asked_of, read_form
from gateway_core import snapshot
from gateway_core.limits import names
from gateway_core.limits.limit import Limit, Measure, Mode, Period
from tests.workers import Answer, Client, SnapshotWriter, Tenant

KEY, OTHER = "sk-first-0123456789abcdefghij", "sk-other-0123456789abcdefghij"
SOUND = bytes(range(256)) * 400
PICTURE = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 9, "output_tokens": 40}}
FAMILIES = ["images/generations", "images/edits", "images/variations", "audio/speech", "audio/transcriptions"]
FAMILIES += ["audio/translations", "moderations", "rerank"]
KEPT = [
    ("GET", "files"),
    ("POST", "files"),
    ("GET", "files/file-1"),
    ("DELETE", "files/file-1"),
    ("GET", "files/file-1/content"),
    ("POST", "batches"),
    ("GET", "batches"),
    ("GET", "batches/batch_1"),
    ("POST", "batches/batch_1/cancel"),
]
STORED = [
    ("GET", "responses/resp_1"),
    ("DELETE", "responses/resp_1"),
    ("POST", "responses/resp_1/cancel"),
    ("GET", "responses/resp_1/input_items"),
]


class Upstream:
    """A provider that notes what it gets, and keeps everything for one key."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str, bytes, str]] = []
        self.url = ""
        # The key that knows what is kept; all do where it is empty.
        self.keeper = ""

    @property
    def keys(self) -> list[str]:
        """The keys that it was shown."""
        return [one[2] for one in self.received]

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        body = await request.read()
        kind = request.headers.get("content-type", "")
        self.received.append((request.method, request.path_qs.removeprefix("/v1/"), key, body, kind))
        if self.keeper and key != self.keeper:
            return web.json_response({"error": {"message": "No such object."}}, status=404)
        if request.path.endswith(("/speech", "/content")):
            response = web.StreamResponse(headers={"content-type": "audio/mpeg"})
            await response.prepare(request)
            for start in range(0, len(SOUND), 10_000):
                await response.write(SOUND[start : start + 10_000])
            return response
        return web.json_response(PICTURE if "images" in request.path else {"id": "x", "object": "list", "data": []})


@pytest.fixture
async def upstream() -> AsyncIterator[Any]:
    """In place of the stand-in: it answers these calls."""
    made = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield made
    await runner.cleanup()


async def call(client: Client, token: str, path: str, model: str | None = "openai:m", **headers: str) -> Answer:
    """One of the calls whose model decides, in JSON."""
    body: dict[str, Any] = {"prompt": "A cat", "input": "Hi"} | ({} if model is None else {"model": model})
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request("POST", f"/v1/{path}", token, json=body, headers=sent)


@pytest.mark.parametrize("path", FAMILIES[:-1])
async def test_a_call_with_a_model_passes_to_its_provider(client: Client, alice: Tenant, upstream: Any, path: str):
    alice.keys(KEY)
    answer = await call(client, alice.token(), path)

    method, reached, key, body, _ = upstream.received[0]
    assert answer.status == 200
    assert (method, reached, key) == ("POST", path, KEY)
    assert b'"model":"m"' in body and b'"prompt":"A cat"' in body  # noqa: PT018 -- one look at one body
    assert answer.headers["gateway-provider"] == "openai"


async def test_a_custom_provider_is_asked_for_all_of_them(client: Client, alice: Tenant, upstream: Any):
    alice.provider("mine", upstream.url)
    alice.keys(KEY, provider="mine")

    for path in FAMILIES:
        assert (await call(client, alice.token(), path, "mine:m")).status == 200
    assert [one[1] for one in upstream.received] == FAMILIES


@pytest.mark.parametrize("extra", [b"", b'\x00\r\n--not-the-boundary\r\n\r\nname="model"'])
async def test_a_form_passes_byte_for_byte_but_for_its_model(
    client: Client, alice: Tenant, upstream: Any, extra: bytes
):
    alice.keys(KEY)
    sound = SOUND + extra
    form = FormData()
    form.add_field("file", sound, filename='a";name="model.mp3', content_type="audio/mpeg")
    form.add_field("model", "openai:whisper-1")
    form.add_field("language", "no")
    answer = await client.request("POST", "/v1/audio/transcriptions", alice.token(), data=form)

    _, _, _, body, kind = upstream.received[0]
    assert answer.status == 200
    assert kind.startswith("multipart/form-data; boundary=")
    assert sound in body
    assert b"\r\n\r\nwhisper-1\r\n--" in body
    assert b'name="language"\r\n\r\nno\r\n--' in body


@pytest.mark.parametrize("name", ["whisper-1", "gpt-image-1", "tts-1-hd", "dall-e-3", "omni-moderation-latest"])
async def test_the_names_that_clients_use_without_a_provider_mean_openais(
    client: Client, alice: Tenant, upstream: Any, name: str
):
    alice.keys(KEY)

    assert (await call(client, alice.token(), "audio/speech", name)).status == 200
    assert f'"model":"{name}"'.encode() in upstream.received[0][3]


async def test_a_moderation_may_leave_its_model_out_and_nothing_else_may(client: Client, alice: Tenant, upstream: Any):
    alice.keys(KEY)
    token = alice.token()

    assert (await call(client, token, "moderations", None)).status == 200
    assert b'"model":"omni-moderation-latest"' in upstream.received[0][3]
    assert (await call(client, token, "audio/speech", None)).code == "model_invalid"


async def test_sound_passes_as_it_comes_and_is_said_to_be_unmetered(client: Client, alice: Tenant, upstream: Any):
    alice.keys(KEY)
    answer = await call(client, alice.token(), "audio/speech")

    assert answer.body == SOUND
    assert answer.headers["gateway-unmetered"] == "true"
    assert (await alice.writer.usage_of(1))[0].output_tokens == 0


async def test_a_picture_is_metered_where_its_answer_says_what_it_took(client: Client, alice: Tenant):
    alice.keys(KEY)
    answer = await call(client, alice.token(), "images/generations")

    [event] = await alice.writer.usage_of(1)
    assert "gateway-unmetered" not in answer.headers
    assert (event.model, event.input_tokens, event.output_tokens) == ("m", 9, 40)


async def test_the_access_scope_decides_as_for_every_other_call(client: Client, alice: Tenant, upstream: Any):
    alice.keys(KEY)
    scope = snapshot.Scope(models=(("openai", "gpt-4o"),))
    token = alice.token(configuration=alice.configuration(scope=scope))

    assert (await call(client, token, "images/generations", "openai:gpt-image-1")).code == "model_not_allowed"
    assert (await call(client, token, "images/generations", "anthropic:x")).code == "model_not_allowed"
    assert not upstream.received


async def test_a_provider_that_does_not_serve_a_call_is_not_asked(client: Client, alice: Tenant, upstream: Any):
    alice.keys(KEY)
    alice.keys(KEY, provider="anthropic")
    token = alice.token()

    for model, path in (("openai:m", "rerank"), ("anthropic:m", "audio/speech")):
        answer = await call(client, token, path, model)
        assert (answer.status, answer.code) == (404, "surface_not_served")
    assert not upstream.received


@pytest.mark.parametrize("path", ["images/generations", "files", "responses/resp_1"])
async def test_the_operators_key_is_never_shown(
    client: Client, alice: Tenant, writer: SnapshotWriter, upstream: Any, worker: Any, path: str
):
    writer.managed(openai="sk-managed-0123456789abcdef")
    await worker.reaches(alice.settings(has_credits=True))
    token = alice.token()
    answer = (
        await call(client, token, path, "openai:gpt-4o") if "images" in path else await client.get(f"/v1/{path}", token)
    )

    assert (answer.status, answer.headers["gateway-error"]) == (400, "no_credentials")
    assert not upstream.received


@pytest.mark.parametrize(("method", "path"), KEPT + STORED)
async def test_what_a_provider_keeps_is_reached_by_the_one_key_for_it(
    client: Client, alice: Tenant, upstream: Any, method: str, path: str
):
    alice.keys(KEY)
    body = {"data": b"--b\r\n\r\nx\r\n--b--", "headers": {"content-type": "multipart/form-data; boundary=b"}}
    answer = await client.request(method, f"/v1/{path}?limit=5", alice.token(), **(body if method == "POST" else {}))

    assert answer.status == 200
    assert answer.headers["gateway-unmetered"] == "true"
    assert upstream.received[0][:3] == (method, f"{path}?limit=5", KEY)
    assert upstream.received[0][3] == (body["data"] if method == "POST" else b"")
    assert not alice.writer.usage()


async def test_a_header_names_another_provider_and_anthropics_clients_mean_anthropic(
    client: Client, alice: Tenant, upstream: Any
):
    alice.provider("mine", upstream.url)
    alice.keys(KEY, provider="mine")
    alice.keys(OTHER, provider="anthropic")
    token = alice.token()

    assert (await client.get("/v1/files", token, headers={"gateway-provider": "mine"})).status == 200
    assert (await client.get("/v1/files", token, headers={"anthropic-version": "2023-06-01"})).status == 200
    assert (await client.get("/v1/messages/batches", token)).status == 200
    refused = await client.get("/v1/files", token)

    assert upstream.keys == [KEY, OTHER, OTHER]
    assert (refused.status, refused.code) == (400, "no_credentials")
    assert "gateway-provider" in refused.json()["error"]["message"]


async def test_with_several_keys_files_are_refused_and_a_response_is_found(
    client: Client, alice: Tenant, upstream: Any
):
    upstream.keeper = OTHER
    token = alice.routed(KEY, OTHER)
    refused, found = await client.get("/v1/files", token), await client.get("/v1/responses/resp_1", token)

    assert (refused.status, refused.code) == (400, "keys_several")
    assert found.status == 200
    assert upstream.keys == [KEY, OTHER]


async def test_a_response_that_no_key_knows_is_the_upstreams_404(client: Client, alice: Tenant, upstream: Any):
    upstream.keeper = "nobody"
    answer = await client.get("/v1/responses/resp_1", alice.routed(KEY, OTHER))

    assert (answer.status, answer.json()) == (404, {"error": {"message": "No such object."}})
    assert upstream.keys == [KEY, OTHER]


async def test_another_accounts_keys_are_never_asked(client: Client, alice: Tenant, charlie: Tenant, upstream: Any):
    charlie.keys(OTHER)
    alice.keys(KEY)

    assert (await client.get("/v1/responses/resp_1", alice.token())).status == 200
    assert (await client.get("/v1/files", charlie.token())).status == 200
    assert upstream.keys == [KEY, OTHER]


async def test_an_access_key_with_named_models_has_no_files_and_no_batches(
    client: Client, alice: Tenant, upstream: Any
):
    """A batch names its models in a file, which the gateway does not read."""
    [key] = alice.keys(KEY)
    rule = snapshot.Rule(provider="openai", steps=(snapshot.Step(type="user", keys=(key,)),))
    scope = snapshot.Scope(models=(("openai", "gpt-4o"),))
    token = alice.token(configuration=alice.configuration(rule, scope=scope))
    strange = alice.token(configuration=alice.configuration(rule, scope=snapshot.Scope(providers=("xai",))))

    for path in ("files", "batches"):
        assert (await client.get(f"/v1/{path}", token)).code == "model_not_allowed"
        assert (await client.get(f"/v1/{path}", strange)).code == "provider_not_allowed"
    assert (await client.get("/v1/responses/resp_1", token)).status == 200
    assert len(upstream.received) == 1


@pytest.mark.parametrize("name", ["models", "extra_body", "Options", "litellm_params"])
async def test_a_form_holds_no_further_models_and_no_members_within_a_field(
    client: Client, alice: Tenant, upstream: Any, name: str
):
    alice.keys(KEY)
    form = FormData({"model": "openai:whisper-1", name: '{"model":"other"}'})
    form.add_field("file", b"RIFF", filename="a.wav")

    refused = await client.request("POST", "/v1/audio/transcriptions", alice.token(), data=form)

    assert (refused.status, refused.code) == (400, "member_ambiguous")
    assert upstream.received == []


async def test_an_access_key_that_may_use_no_model_of_a_provider_reads_no_responses(
    client: Client, alice: Tenant, upstream: Any
):
    [key] = alice.keys(KEY)
    rule = snapshot.Rule(provider="openai", steps=(snapshot.Step(type="user", keys=(key,)),))
    for models in ((), (("anthropic", "claude-sonnet-4-5"),)):
        token = alice.token(configuration=alice.configuration(rule, scope=snapshot.Scope(models=models)))
        assert (await client.get("/v1/responses/resp_1", token)).code == "model_not_allowed"
    assert upstream.received == []


async def test_limits_count_the_calls_with_a_model(client: Client, alice: Tenant, redis: Redis, writer: Any):
    redis.hset(names.marker(writer.names), mapping={"epoch": writer.epoch, "since": 1, "seen": 1})
    alice.keys(KEY)
    token = alice.token(limits=(Limit(measure=Measure.REQUESTS, amount=1, period=Period.HOUR),))

    assert [(await call(client, token, "audio/speech")).status for _ in range(2)] == [200, 429]
    assert (await client.get("/v1/files", token)).status == 200


@pytest.mark.parametrize("path", ["batches", "messages/batches"])
async def test_a_new_batch_is_refused_under_a_limit_and_what_is_there_may_be_read(
    client: Client, alice: Tenant, upstream: Any, path: str
):
    """What it uses stands in a file and is never reported."""
    provider = {"gateway-provider": "anthropic" if path.startswith("messages") else "openai"}
    alice.keys(KEY, provider=provider["gateway-provider"])
    limit = Limit(measure=Measure.COST, amount=10**9, period=Period.MONTH)
    limited = alice.token(limits=(limit,))
    observed = alice.token(limits=(msgspec.structs.replace(limit, mode=Mode.OBSERVE),))

    refused = await client.request("POST", f"/v1/{path}", limited, json={}, headers=provider)
    assert (refused.status, refused.headers["gateway-error"]) == (403, "batch_not_limited")
    assert upstream.received == []
    assert (await client.get(f"/v1/{path}", limited, headers=provider)).status == 200
    assert (
        await client.request("POST", f"/v1/{path}/batch_1/cancel", limited, json={}, headers=provider)
    ).status == 200
    assert (await client.request("POST", f"/v1/{path}", observed, json={}, headers=provider)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "files", "GET, POST"), ("POST", "responses/resp_1", "GET, DELETE"), ("GET", "audio/speech", "POST")],
)
async def test_another_method_is_405(client: Client, alice: Tenant, method: str, path: str, allow: str):
    answer = await client.request(method, f"/v1/{path}", alice.token())

    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/files", "/files"),
        ("/files/", "/files"),
        ("/v1/v1//audio/speech", "/audio/speech"),
        ("/v1/responses/resp_1/cancel", "/responses/resp_1/cancel"),
        ("/v1/files/..", None),
        ("/v1/files/a%2Fb", None),
        ("/v1/files/a/b", None),
        ("/v1/responses/resp_1/other", None),
        ("/v1/responses", None),
        ("/x/files", None),
        ("/v1/images", None),
    ],
)
def test_a_path_means_one_call_or_none(path: str, meant: str | None):
    found = asked_of(path)

    assert (found.path if found else None) == meant


BOUNDARY = b"multipart/form-data; boundary=b"


def form(*parts: bytes) -> bytes:
    """A body of these parts, each head and content."""
    return b"".join(b"--b\r\ncontent-disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"


MODEL = b'name="model"\r\n\r\ngpt-image-1'
SEVERAL = [
    form(b'name="file"\r\n\r\nx'),
    form(b'name="model"\r\n\r\na', b'name="model"\r\n\r\nb'),
    form(b'name="model"\r\n\r\n'),
    form(b'name="model"\r\n\r\n\xff'),
    form(b'name="model"\r\n\r\na\nb'),
    form(b'name="model"\r\ncontent-transfer-encoding: base64\r\n\r\nYQ=='),
]


@pytest.mark.parametrize("raw", SEVERAL, ids=["none", "twice", "empty", "not text", "two lines", "encoded"])
def test_a_form_without_one_plain_model_is_refused(raw: bytes):
    with pytest.raises(ModelInvalid):
        read_form(raw, BOUNDARY)


# What one parser of forms takes for another part, or another name, than the next.
UNCERTAIN = {
    "a line feed alone": form(MODEL, b'name="f"\r\n\r\nx\n--b\ncontent-disposition: form-data; name="model"\n\nevil'),
    "a boundary within a line": form(MODEL, b'name="f"\r\n\r\nx--b\r\n'),
    "something before the first part": b"x\r\n" + form(MODEL),
    "no end": form(MODEL)[:-6],
    "two names": form(MODEL, b'name="x"; name="model"\r\n\r\na'),
    "an escaped name": form(MODEL, b'name="mo\\del"\r\n\r\na'),
    "another kind of name": form(MODEL, b"name*=utf-8''model\r\n\r\na"),
    "a folded head": form(MODEL, b'\r\n name="model"\r\n\r\na'),
    "a bare line feed in a head": form(MODEL, b'name="x"\ncontent-disposition: form-data; name="model"\r\n\r\na'),
    "two heads": form(MODEL, b'name="x"\r\ncontent-disposition: form-data; name="model"\r\n\r\na'),
    "no head": form(MODEL).replace(b"--b--", b"--b\r\n\r\n--b--"),
    "no form": form(MODEL, b"x").replace(b"form-data; x", b'attachment; name="model"\r\n\r\na'),
}


@pytest.mark.parametrize("raw", UNCERTAIN.values(), ids=UNCERTAIN.keys())
def test_a_form_that_parsers_may_read_differently_is_refused(raw: bytes):
    with pytest.raises(BodyInvalid):
        read_form(raw, BOUNDARY)


@pytest.mark.parametrize(
    "kind", [b"multipart/form-data", b"multipart/form-data; boundary=b; boundary=c", b"text/plain"]
)
def test_a_form_without_one_boundary_is_refused(kind: bytes):
    with pytest.raises(BodyInvalid):
        read_form(form(MODEL), kind)


@pytest.mark.parametrize(
    ("part", "code"), [("Model", "member_ambiguous"), ("model[]", "member_ambiguous"), ("fallbacks", "member_routes")]
)
async def test_the_parts_of_a_form_are_judged_by_their_names(
    client: Client, alice: Tenant, upstream: Any, part: str, code: str
):
    [key] = alice.keys(KEY)
    rule = snapshot.Rule(provider="openai", steps=(snapshot.Step(type="user", keys=(key,)),))
    scope = snapshot.Scope(models=(("openai", "whisper-1"),))
    sent = FormData()
    sent.add_field("file", SOUND, filename="a.mp3")
    sent.add_field("model", "whisper-1")
    sent.add_field(part, "openai:gpt-4o")
    token = alice.token(configuration=alice.configuration(rule, scope=scope))
    answer = await client.request("POST", "/v1/audio/transcriptions", token, data=sent)

    assert (answer.status, answer.code) == (400, code)
    assert not upstream.received


def test_a_form_is_what_it_was_around_its_model():
    raw = form(
        b"name=model\r\n\r\ngpt-image-1", b'name="image"; filename="m.png"; filename*=utf-8\'\'m.png\r\n\r\n\x00\r\n-b'
    )
    found = read_form(raw, b'multipart/form-data; charset=utf-8; boundary="b"')

    assert (found.model, found.names) == ("gpt-image-1", {"model", "image"})
    assert found.before + found.model.encode() + found.after == raw
