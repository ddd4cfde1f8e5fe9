"""Holds: gateway_core.explanation, data_plane.forwarding.attempts

What `explain` says of a request, the worker then does: provider, model, key and order.

Random accounts, configurations, requests and failures. The failures are assumed in the one and made by the upstream in
the other.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_plane.errors import AttemptsFailed, RateLimited
from gateway_core import snapshot
from gateway_core.account_snapshot import snapshot_of
from gateway_core.catalog import Catalog, Model, ModelsDocument, Surface
from gateway_core.explanation import ALL_ATTEMPTS_FAILED, ExplainedAttempt, Explanation, explain
from gateway_core.ids import Prefix
from gateway_core.plans import KeySource
from gateway_core.snapshot import (
    ConfigurationDocument,
    ProviderDocument,
    Rule,
    Scope,
    SettingsDocument,
    Step,
    SurfaceSupport,
)
from tests import tiers
from tests.workers import Running, SnapshotWriter, Tenant, name_of, new_id, running, settings_of

MODELS = ModelsDocument(
    providers={
        "openai": (Model("gpt-4o", input_price="2.5", output_price="10"), Model("o3")),
        "anthropic": (Model("claude-haiku-4-5", input_price="1", output_price="5"),),
        "groq": (Model("openai/gpt-oss-120b"), Model("llama-3.3-70b-versatile")),
        "openrouter": (Model("openai/gpt-4o"), Model("openai/gpt-oss-120b"), Model("meta-llama/llama-3.3-70b")),
    }
)
BUILT_IN = tuple(MODELS.providers)
CUSTOM = ("my-ollama", "other")
CUSTOM_IDS = {slug: new_id(Prefix.PROVIDER) for slug in CUSTOM}
PROVIDERS = (*BUILT_IN, *CUSTOM)
NAMES = (
    "gpt-4o",
    "GPT-4o",
    "openai:gpt-4o",
    "openai/gpt-4o",
    "openai:openai/gpt-4o",
    "openai:uncatalogued",
    "o3",
    "openai/gpt-oss-120b",
    "groq:openai/gpt-oss-120b",
    "meta-llama/llama-3.3-70b",
    "claude-haiku-4-5",
    "anthropic:claude-haiku-4-5",
    "my-ollama:llama3.2",
    "my-ollama/llama3.2",
    f"{CUSTOM_IDS['my-ollama']}:llama3.2",
    "llama3.2",
    "other:anything",
    "unknown",
    "nobody:gpt-4o",
)
MODEL_ENTRIES = (
    ("openai", "gpt-4o"),
    ("openai", "o3"),
    ("groq", "openai/gpt-oss-120b"),
    ("anthropic", "claude-haiku-4-5"),
    ("my-ollama", "llama3.2"),
    ("", "openai/gpt-4o"),
    ("", "openai/gpt-oss-120b"),
    ("", "meta-llama/llama-3.3-70b"),
)
RULED_MODELS = (None, None, "gpt-4o", "openai/gpt-oss-120b", "llama3.2", "claude-haiku-4-5")
FAILURES = ("500", "429", "401", "408", "302", "close")


class Case(NamedTuple):
    """An account, a request, and what goes wrong. Keys are their places in `keys`."""

    custom: dict[str, tuple[Surface, ...]]
    # The provider of each key.
    keys: tuple[str, ...]
    scope: Scope
    # (provider, model, steps); a step is None for managed inference, or places of keys.
    rules: tuple[tuple[str, str | None, tuple[tuple[int, ...] | None, ...]], ...]
    has_configuration: bool
    has_credits: bool
    managed: tuple[str, ...]
    requested: tuple[str, ...]
    surface: Surface
    failing_keys: tuple[int, ...]
    failing_providers: tuple[str, ...]
    failure: str


def some(values: Any, **bounds: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), unique=True, **bounds).map(tuple)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    custom = {
        slug: draw(some([Surface.CHAT_COMPLETIONS, Surface.MESSAGES, Surface.RESPONSES], min_size=1))
        for slug in draw(some(CUSTOM))
    }
    keys = tuple(draw(st.lists(st.sampled_from((*BUILT_IN, *custom)), max_size=6)))
    rules = {}
    for provider in draw(some(PROVIDERS)):
        model = draw(st.sampled_from(RULED_MODELS))
        own = [place for place, of in enumerate(keys) if of == provider]
        user_steps = [some(own, min_size=1)] if own else []
        steps = draw(st.lists(st.one_of(st.none(), *user_steps), min_size=1, max_size=3))
        rules[provider, model] = tuple(steps)
    requested = draw(some(NAMES, min_size=1, max_size=4))
    return Case(
        custom=custom,
        keys=keys,
        scope=Scope(
            providers=draw(st.none() | some(PROVIDERS)),
            models=draw(st.none() | some(MODEL_ENTRIES)),
        ),
        rules=tuple((provider, model, steps) for (provider, model), steps in rules.items()),
        has_configuration=draw(st.booleans()),
        has_credits=draw(st.booleans()),
        managed=draw(some(("openai", "anthropic"))),
        requested=requested,
        surface=draw(st.sampled_from([Surface.CHAT_COMPLETIONS] * 3 + [Surface.MESSAGES, Surface.RESPONSES])),
        failing_keys=draw(some(range(len(keys)))) if keys else (),
        failing_providers=draw(some(PROVIDERS, max_size=2)),
        failure=draw(st.sampled_from(FAILURES)),
    )


class Call(NamedTuple):
    """One request that an upstream got."""

    provider: str
    model: str
    key: str


class Upstreams:
    """Every provider on one port, each under a path of its own."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failing: set[str] = set()
        self.failure = ""
        self.origin = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        call = Call(request.path.split("/")[1], body["model"], key)
        self.calls.append(call)
        if not self.failing & {call.provider, call.key}:
            return web.json_response({"answer": "whole"})
        if self.failure == "close":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response({}, status=int(self.failure))


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    made = Upstreams()
    app = web.Application()
    app.router.add_post("/{tail:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.origin = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield made
    await runner.cleanup()


class Stage:
    """One case, published and told to `explain`."""

    def __init__(self, case: Case, writer: SnapshotWriter, origin: str) -> None:
        self.case = case
        self.tenant = Tenant(writer)
        self.keys = [new_id(Prefix.PROVIDER_KEY) for _ in case.keys]
        self.values = {key: f"sk-{place}-0123456789abcdef" for place, key in enumerate(self.keys)}
        self.configuration = new_id(Prefix.CONFIGURATION) if case.has_configuration else None
        # In the order of `custom`: no order in which documents come may decide anything.
        self.documents: dict[str, msgspec.Struct] = {
            snapshot.SETTINGS_DOCUMENT: SettingsDocument(has_credits=case.has_credits)
        }
        for slug, surfaces in case.custom.items():
            self.documents[snapshot.provider_document(slug)] = ProviderDocument(
                id=CUSTOM_IDS[slug],
                name=slug,
                base_url=f"{origin}/{slug}/v1",
                surfaces=tuple(map(SurfaceSupport, surfaces)),
                models=("llama3.2",),
            )
        for key, provider in zip(self.keys, case.keys, strict=True):
            document = self.tenant.key_document(key, self.values[key], provider)
            self.documents[snapshot.provider_key_document(key)] = document
        if self.configuration is not None:
            self.documents[snapshot.configuration_document(self.configuration)] = ConfigurationDocument(
                scope=case.scope,
                rules=tuple(
                    Rule(provider=provider, model=model, steps=tuple(map(self._step, steps)))
                    for provider, model, steps in case.rules
                ),
            )

    def _step(self, places: tuple[int, ...] | None) -> Step:
        if places is None:
            return Step(type="ngrok")
        return Step(type="user", keys=tuple(self.keys[place] for place in places))

    def explained(self) -> Explanation:
        return explain(
            snapshot_of(self.tenant.id, 1, self.documents.items()),
            Catalog(MODELS, version=1, managed=self.case.managed),
            configuration=self.configuration,
            requested=self.case.requested,
            surface=self.case.surface,
            failing=[*(self.keys[place] for place in self.case.failing_keys), *self.case.failing_providers],
        )

    def failing(self) -> set[str]:
        """What the upstreams know of it: keys' values, and providers."""
        return {self.values[self.keys[place]] for place in self.case.failing_keys} | set(self.case.failing_providers)

    def call_of(self, attempt: ExplainedAttempt) -> Call:
        key = self.values.get(attempt.provider_key_id or "", "")
        if attempt.key_source is KeySource.MANAGED:
            key = operators(attempt.provider)
        return Call(attempt.provider, attempt.model, key)


def operators(provider: str) -> str:
    """The operator's own key for a provider."""
    return f"sk-operator-{provider}-0123456789"


async def check(case: Case, worker: Running, writer: SnapshotWriter, upstreams: Upstreams) -> None:
    writer.managed(MODELS, **{provider: operators(provider) for provider in case.managed})
    stage = Stage(case, writer, upstreams.origin)
    stage.tenant.publish(stage.documents)
    token = stage.tenant.token(configuration=stage.configuration, publish=False)
    number = stage.tenant.publish({name_of(token): stage.tenant.token_document(configuration=stage.configuration)})
    await worker.reaches(number)
    upstreams.calls.clear()
    upstreams.failing, upstreams.failure = stage.failing(), case.failure
    told = stage.explained()

    model, *others = case.requested
    # With the operator's key nothing passes that the surface does not know.
    asked: dict[str, Any] = {"input": "Hi"} if case.surface is Surface.RESPONSES else {"messages": []}
    body = {"model": model, "models": others, "max_tokens": 5} | asked
    answer = await worker.client.request("POST", f"/v1{case.surface.path}", token, data=msgspec.json.encode(body))

    reached = [attempt for attempt in told.attempts if attempt.outcome != "isNotReached"]
    # An attempt whose kept connection is closed under it is sent once more on a new one. A plan has no call twice.
    assert list(dict.fromkeys(upstreams.calls)) == [stage.call_of(attempt) for attempt in reached]
    if told.error_code is None:
        assert answer.status == 200
        assert answer.headers["gateway-provider"] == reached[-1].provider
        assert answer.headers["gateway-attempts"] == str(len(reached))
    elif told.error_code == ALL_ATTEMPTS_FAILED:
        assert answer.status == (RateLimited if case.failure == "429" else AttemptsFailed).status
    else:
        assert answer.json()["error"]["message"] == told.msg
        if case.surface is not Surface.MESSAGES:
            assert answer.code == told.error_code


async def test_what_explain_says_is_what_the_worker_does(
    environ: dict[str, str], writer: SnapshotWriter, upstreams: Upstreams
):
    urls = {provider: f"{upstreams.origin}/{provider}/v1" for provider in BUILT_IN}
    loop = asyncio.get_running_loop()
    async with running(settings_of(environ, upstream_base_urls=urls)) as worker:

        @settings(max_examples=tiers.number(20, full=80), suppress_health_check=list(HealthCheck))
        @given(cases())
        def each(case: Case) -> None:
            asyncio.run_coroutine_threadsafe(check(case, worker, writer, upstreams), loop).result(30)

        await asyncio.to_thread(each)
