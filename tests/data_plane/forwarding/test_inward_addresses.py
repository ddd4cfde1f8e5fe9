"""Holds: data_plane.forwarding.upstream, gateway_core.base_urls

Requests cannot be turned inward, nor their keys elsewhere: not by a base URL, a resolver, a redirect or a body.

What must not be reached is a listener that counts; and every connection that this process makes is seen by an audit
hook, whatever its port.
"""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from gateway_core import snapshot
from gateway_core.base_urls import UpstreamRules
from gateway_core.catalog import Surface
from gateway_core.ids import Prefix
from gateway_core.snapshot import ProviderDocument, SurfaceSupport
from local.stand_in import StandIn
from tests.hostile_urls import INWARD, NEVER
from tests.workers import Running, Tenant, new_id

KEY = "sk-first-0123456789abcdefghij"
# What production allows by itself: the internet, by TLS.
PRODUCTION = UpstreamRules()

_seen: list[tuple[str, int]] = []


class _Watch:
    """An audit hook stays for the process's life; this tells it when to look."""

    is_there = False
    is_on = False


def _look(event: str, args: tuple[Any, ...]) -> None:
    if _Watch.is_on and event == "socket.connect" and args[0].family in {socket.AF_INET, socket.AF_INET6}:
        _seen.append((str(args[1][0]), int(args[1][1])))


@pytest.fixture
def connections(redis_url: str) -> Iterator[Callable[[Running], list[tuple[str, int]]]]:
    """Where this process has connected to, but for its Redis and the worker itself."""
    if not _Watch.is_there:
        sys.addaudithook(_look)
        _Watch.is_there = True
    _seen.clear()
    _Watch.is_on = True

    def made(worker: Running) -> list[tuple[str, int]]:
        own = {int(url.rpartition(":")[2].partition("/")[0]) for url in (redis_url, worker.client.url)}
        return [one for one in _seen if one[1] not in own]

    yield made
    _Watch.is_on = False


class Listener:
    """Listens on the loopback addresses and counts who comes."""

    def __init__(self) -> None:
        self.count = 0
        self.port = 0

    def take(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


def publish(tenant: Tenant, urls: dict[str, str]) -> int:
    """Custom providers with these base URLs, as a captured control plane could publish them."""
    surfaces = (SurfaceSupport(Surface.CHAT_COMPLETIONS),)
    number = 0
    items = list(urls.items())
    for start in range(0, len(items), 100):
        number = tenant.publish(
            {
                snapshot.provider_document(slug): ProviderDocument(
                    id=new_id(Prefix.PROVIDER), name=slug, base_url=url, surfaces=surfaces
                )
                for slug, url in items[start : start + 100]
            }
        )
    return number


async def ask_all(worker: Running, token: str, slugs: list[str]) -> list[int]:
    """The status of a request to each provider, a few at a time."""
    at_once = asyncio.Semaphore(20)

    async def ask(slug: str) -> int:
        async with at_once:
            return await worker.client.status(token, model=f"{slug}:m")

    return list(await asyncio.gather(*map(ask, slugs)))


def at_port(url: str, port: int) -> str:
    """The same URL with the listener's port, where its host can have one."""
    return re.sub(r"^(\w+://(?:\[[^]]*\]|[^/:?#\[]+))(?::\d+)?(?=[/?#]|$)", rf"\g<1>:{port}", url)


def hostile(listener: Listener) -> dict[str, str]:
    """Every hostile URL as it stands, and at the listener's port; an empty text is no document at all."""
    urls = [*NEVER, *INWARD]
    urls += [at_port(url, listener.port) for url in urls]
    urls += [f"http://{host}:{listener.port}/v1" for host in ("127.0.0.1", "127.1", "2130706433", "localhost", "0")]
    fitting = [url for url in dict.fromkeys(urls) if 0 < len(url) <= 4096]
    return {f"p{number}": url for number, url in enumerate(fitting)}


async def test_no_hostile_base_url_makes_a_worker_connect_anywhere(
    make_worker: Callable[..., Any],
    alice: Tenant,
    listener: Listener,
    connections: Callable[[Running], list[tuple[str, int]]],
):
    worker = await make_worker(upstream_rules=PRODUCTION)
    token = alice.token()
    urls = hostile(listener)
    assert len(urls) >= 240
    publish(alice, urls)
    assert await worker.client.status(token, model="p0:m") != 200

    statuses = await ask_all(worker, token, list(urls))

    assert set(statuses) == {502}
    # What resolves to an address on the internet is not among the hostile; so there is nothing at all.
    assert connections(worker) == []
    assert listener.count == 0


async def test_what_no_operator_can_allow_by_accident_is_refused_in_evaluation_too(
    make_worker: Callable[..., Any],
    alice: Tenant,
    listener: Listener,
    connections: Callable[[Running], list[tuple[str, int]]],
):
    worker = await make_worker(upstream_rules=UpstreamRules(loopback=True))
    token = alice.token()
    urls = {f"n{number}": url for number, url in enumerate(NEVER)}
    publish(alice, urls)

    statuses = await ask_all(worker, token, list(urls))

    assert set(statuses) == {502}
    assert connections(worker) == []


async def test_a_resolver_that_changes_its_answer_leads_nobody_inward(
    make_worker: Callable[..., Any], alice: Tenant, listener: Listener, monkeypatch: pytest.MonkeyPatch
):
    """1,000 names, each resolved to an allowed address, to a denied one, or to both, and otherwise the next time."""
    # Nobody listens on 127.0.0.2; the listener is at 127.0.0.1.
    rules = UpstreamRules(networks=(ip_network("127.0.0.2/32"),))
    worker = await make_worker(upstream_rules=rules)
    token = alice.token()
    assert await worker.client.status(token, model="openai:gpt-4o") == 400
    answers = (["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "::1"], ["::ffff:127.0.0.1"])
    asked = count()
    resolved = []

    async def resolve(_: object, host: str, port: int, family: int) -> list[ResolveResult]:
        resolved.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answers[next(asked) % len(answers)]
        ]

    monkeypatch.setattr(aiohttp.AsyncResolver, "resolve", resolve)
    urls = {f"r{number}": f"https://r{number}.example:{listener.port}/v1" for number in range(1000)}
    await worker.reaches(publish(alice, urls))

    statuses = await ask_all(worker, token, list(urls))
    again = await ask_all(worker, token, list(urls)[:50])

    assert set(statuses) | set(again) == {502}
    assert len(resolved) >= 1000
    assert listener.count == 0


async def test_the_listener_would_have_been_reached(make_worker: Callable[..., Any], alice: Tenant, listener: Listener):
    """The tests above count something: where the operator allows it, the very same URLs do connect."""
    worker = await make_worker(upstream_rules=UpstreamRules(loopback=True))
    token = alice.token()
    urls = {"plain": f"http://127.0.0.1:{listener.port}/v1", "tls": f"https://127.1:{listener.port}/v1"}
    publish(alice, urls)

    assert await ask_all(worker, token, list(urls)) == [502, 502]
    assert listener.count >= 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(worker: Running, alice: Tenant, listener: Listener, status: int):
    shown = []

    async def redirect(request: web.Request) -> web.Response:
        shown.append(request.headers["authorization"])
        return web.Response(status=status, headers={"location": f"http://127.0.0.1:{listener.port}/v1"})

    app = web.Application()
    app.router.add_post("/{tail:.*}", redirect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        alice.provider("elsewhere", f"http://127.0.0.1:{port}/v1")
        alice.keys(KEY, provider="elsewhere")

        answer = await worker.client.chat(alice.token(), "elsewhere:m")
    finally:
        await runner.cleanup()

    assert answer.status == 502
    assert "location" not in answer.headers
    assert shown == [f"Bearer {KEY}"]
    assert listener.count == 0


STEERING = (
    "api_base",
    "api_key",
    "api_type",
    "api_version",
    "auth",
    "aws_bedrock_runtime_endpoint",
    "azure_ad_token",
    "azure_endpoint",
    "base_url",
    "baseUrl",
    "client",
    "custom_llm_provider",
    "default_headers",
    "endpoint",
    "extra_headers",
    "fallbacks",
    "headers",
    "host",
    "litellm_params",
    "model_list",
    "organization",
    "provider",
    "proxy",
    "router",
    "url",
    "user_config",
)


async def test_nothing_in_a_request_changes_the_upstream_or_the_key(
    worker: Running, alice: Tenant, upstream: StandIn, listener: Listener
):
    alice.keys(KEY)
    token = alice.token()
    elsewhere = f"http://127.0.0.1:{listener.port}/v1"
    values: list[Any] = [
        elsewhere,
        {"url": elsewhere, "api_base": elsewhere, "api_key": "sk-theirs", "authorization": "Bearer sk-theirs"},
        [{"model_name": "openai:gpt-4o", "api_base": elsewhere, "api_key": "sk-theirs"}],
    ]

    for name in STEERING:
        for value in values:
            steered_body = json.dumps({"model": "openai:gpt-4o", "messages": [], name: value}).encode()
            assert await worker.client.status(token, raw=steered_body) == 200
        path = f"/v1/chat/completions?{name}={elsewhere}"
        body = b'{"model":"openai:gpt-4o","messages":[]}'
        assert (await worker.client.request("POST", path, token, data=body)).status == 200
        steered = {f"x-{name.replace('_', '-')}": elsewhere, "x-goog-api-key": "sk-theirs", "api-key": "sk-theirs"}
        assert (await worker.client.chat(token, headers=steered)).status == 200

    assert len(upstream.calls) == len(STEERING) * (len(values) + 2)
    assert set(upstream.keys) == {KEY}
    assert {call.path for call in upstream.calls} == {"/v1/chat/completions"}
    sent = [{name.lower() for name in call.headers} for call in upstream.calls]
    assert not any({"x-goog-api-key", "api-key"} & names for names in sent)
    assert listener.count == 0
