"""Holds: data_plane.forwarding.headers

Only listed headers pass, in both directions, and no way to write the access key passes.
"""

from urllib.parse import quote

import pytest

from data_plane.forwarding.headers import downstream, for_provider, holds, upstream
from local.stand_in import StandIn
from tests.workers import Client, Tenant

TOKEN = b"gwk_0123456789abcdefghijABCDEFGHIJ0123456789"
ORDERS = [
    *("x-portkey-custom-host", "x-portkey-config", "helicone-target-url", "helicone-auth", "cf-aig-metadata"),
    *("x-auth-request-user", "remote-user", "x-ms-client-principal", "x-http-method-override", "x-forwarded-for"),
    *("content_length", "transfer_encoding", "x_forwarded_for", "http_host", "openai_organization", "x-original-url"),
    *("x-stainless_os", "anthropic_beta", "authorization", "x-api-key", "api-key", "cookie", "host", "te", "expect"),
    *("content-length", "transfer-encoding", "baggage", "x-amzn-trace-id", "x-goog-user-project", "gateway-loop"),
    *("x-litellm-tags", "x-anything", "accept-encoding", "range", "if-none-match", "chatgpt-account-id"),
]
ASKED = {
    "accept": "application/json",
    "user-agent": "OpenAI/Python 2.0",
    "openai-beta": "responses=experimental",
    "anthropic-beta": "some-feature",
    "anthropic-dangerous-direct-browser-access": "true",
    "x-stainless-retry-count": "1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "idempotency-key": "1",
    "session_id": "codex",
    "originator": "codex_cli_rs",
    "x-app": "cli",
    "x-claude-code-session-id": "1",
}


def passed(headers: dict[str, str], provider: str = "openai") -> dict[str, str]:
    """What a provider sees of a caller's headers."""
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {name.decode(): value.decode() for name, value in for_provider(upstream(given, TOKEN), provider).items()}


@pytest.mark.parametrize("name", ORDERS)
def test_a_header_that_is_not_listed_does_not_pass(name: str):
    assert passed({name: "http://elsewhere.example"}) == {}


def test_what_clients_send_to_their_vendors_passes():
    assert passed(ASKED) == ASKED


def test_what_only_one_provider_reads_goes_to_that_one_alone():
    headers = {"http-referer": "https://app.example", "x-title": "App", "x-grok-conv-id": "1", "user-agent": "x"}

    assert passed(headers, "openrouter").keys() == {"http-referer", "x-title", "user-agent"}
    assert passed(headers, "xai").keys() == {"x-grok-conv-id", "user-agent"}
    assert passed(headers, "my-own").keys() == {"user-agent"}


async def test_on_the_wire_only_listed_headers_arrive(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys("sk-first-0123456789abcdefghij")
    token = alice.token()
    orders = {name: "x" for name in ORDERS if name not in {"authorization", "transfer-encoding", "content-length"}}

    assert (await client.chat(token, headers=orders | ASKED | {"expect": ""})).status == 200

    sent = {name.lower() for name in upstream.calls[0].headers}
    ours = {"host", "content-length", "content-type", "authorization", "accept-encoding", "gateway-loop"}
    assert sent - ours == ASKED.keys()


def written(token: str) -> list[str]:
    """A token as it might stand in a URL."""
    each = "".join(f"%{ord(character):02x}" for character in token)
    return [
        token,
        each,
        each.upper().replace("%5F", "%5f"),
        "%67" + token[1:],
        token.replace("_", "%5F"),
        quote(each),
        quote(quote(each)),
        f"a=1&key={each}&b=2",
        "%2525252567" + token[1:],
    ]


@pytest.mark.parametrize("text", written(TOKEN.decode()))
def test_the_access_key_is_found_however_often_it_is_percent_encoded(text: str):
    assert holds(text.encode(), TOKEN)
    assert passed({"user-agent": text}) == {}


@pytest.mark.parametrize("text", ["", "beta=true&x=%26", "q=%25", "%", "%zz%", "gwk_other", "a+b%20c"])
def test_a_text_without_the_access_key_passes(text: str):
    assert not holds(text.encode(), TOKEN)


async def test_an_access_key_in_a_query_is_refused_however_it_is_written(
    client: Client, alice: Tenant, upstream: StandIn
):
    from yarl import URL

    alice.keys("sk-first-0123456789abcdefghij")
    token = alice.token()
    body = b'{"model":"openai:gpt-4o","messages":[]}'

    for text in written(token):
        url = URL(f"{client.url}/v1/chat/completions?key={text}", encoded=True)
        async with client.session.post(url, data=body, headers={"authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 400
            assert "access_key_in_query" in await answer.text()

    assert upstream.calls == []


@pytest.mark.parametrize(
    "name",
    [
        *("set-cookie", "location", "server", "date", "via", "alt-svc", "x-request-id", "openai-organization"),
        *("openai-project", "anthropic-organization-id", "www-authenticate", "access-control-allow-origin", "cf-ray"),
        *("gateway-provider", "x-litellm-model-api-base", "x-powered-by", "x-anything", "refresh", "link", "nel"),
        *("x_ratelimit_limit", "content_type", "content-security-policy", "clear-site-data", "set-cookie2"),
    ],
)
def test_an_answers_header_that_is_not_listed_does_not_pass(name: str):
    assert downstream([(name.encode(), b"x")]) == []


def test_what_clients_read_of_an_answer_passes():
    read = [
        *("content-type", "retry-after", "retry-after-ms", "x-should-retry", "x-ratelimit-remaining-tokens"),
        *("anthropic-ratelimit-requests-reset", "openai-processing-ms", "openai-version"),
        *("cache-control", "x-codex-turn-state", "openai-model"),
    ]

    assert [name.decode() for name, _ in downstream([(name.upper().encode(), b"x") for name in read])] == read
