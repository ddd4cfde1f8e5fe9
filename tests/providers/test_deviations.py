"""Holds: providers.deviation_fields, gateway_core.upstream_requests, providers.snapshot_documents

How requests to a custom provider deviate: what may be written, what is read back, and what the data plane gets.
"""

from typing import Any

import pytest

from gateway_core import snapshot
from gateway_core.catalog import KeyHeader
from providers import snapshot_documents
from providers.models import Provider

BODY = {"providerId": "mine", "name": "Mine", "baseUrl": "https://llm.example.com"}
AZURE: dict[str, Any] = {
    "auth": {"header": "api-key"},
    "headers": {"X-Ms-Region": "westeurope"},
    "paths": {"chat-completions": "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"},
    "dialect": "openai",
}
NAMES = tuple(AZURE)


def document(provider: Any) -> snapshot.ProviderDocument:
    """A provider's document, once through the bytes that Redis holds."""
    built = snapshot_documents.build(Provider.objects.get(slug=provider["providerId"]))
    read = snapshot.read("provider:mine", snapshot.encode(built))
    assert isinstance(read, snapshot.ProviderDocument)
    return read


def test_what_is_written_is_read_back_and_an_object_without_it_has_no_key_of_it(api):
    plain = api.post("/providers", {**BODY, "providerId": "plain"}).json()
    made = api.post("/providers", {**BODY, **AZURE})

    assert made.status_code == 201, made.json()
    assert {name: made.json()[name] for name in NAMES} == AZURE
    assert not set(NAMES) & set(plain)
    assert list(api.get(made.json()["uri"]).json()) == list(made.json())


@pytest.mark.parametrize("name", NAMES)
def test_null_puts_the_default_back_and_the_same_again_changes_nothing(api, name):
    made = api.post("/providers", {**BODY, **AZURE}).json()

    same = api.patch(made["uri"], {name: AZURE[name]})
    cleared = api.patch(made["uri"], {name: None})

    assert same.json() == made
    assert name not in cleared.json()
    assert set(cleared.json()) == set(made) - {name}
    assert cleared.headers["etag"] != same.headers["etag"]
    assert document(made).must_understand == tuple(other for other in NAMES if other != name)


def test_the_data_plane_gets_it_from_the_root_of_the_host_and_must_understand_it(api):
    made = api.post("/providers", {**BODY, **AZURE, "baseUrl": "https://llm.example.com/base/?tenant=a"}).json()

    found = document(made)

    assert found.auth == KeyHeader("api-key", "")
    assert found.headers == {"x-ms-region": "westeurope"}
    assert found.paths == {
        "chat-completions": "/base/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
    }
    assert found.dialect == "openai"
    assert found.must_understand == NAMES


def test_the_default_path_of_a_base_url_is_no_part_of_a_surfaces_own_path(api):
    made = api.post("/providers", {**BODY, "paths": {"messages": "/anthropic/v1/messages"}}).json()

    found = document(made)

    assert (found.base_url, found.paths) == (
        "https://llm.example.com/v1",
        {"messages": "/anthropic/v1/messages"},
    )
    assert found.must_understand == ("paths",)


def test_a_provider_that_does_not_deviate_is_published_as_before(api):
    made = api.post("/providers", {**BODY, "headers": {}, "paths": {}}).json()

    body = snapshot.encode(snapshot_documents.build(Provider.objects.get(slug="mine")))

    assert (made["headers"], made["paths"]) == ({}, {})
    assert not any(name.encode() in body for name in (*NAMES, "mustUnderstand"))


KEY_SHAPED = "sk-proj-0123456789abcdefghijABCDEFGHIJ"
REFUSED = [
    # auth
    ({"auth": {}}, "auth.header"),
    ({"auth": "api-key"}, "auth"),
    ({"auth": {"header": "api-key", "value": "x"}}, "auth.value"),
    *[
        ({"auth": {"header": header}}, "auth.header")
        for header in (
            *("Host", "content-length", "Transfer-Encoding", "connection", "te", "Upgrade", "proxy-authorization"),
            *("cookie", "x_api_key", "api key", "api-key:", "x\r\ny", "ключ", "", "x" * 101, "gateway-loop", "1key"),
            *("X-Forwarded-For", "x-http-method-override", "accept-encoding", "expect", "keep-alive"),
        )
    ],
    ({"auth": {"header": "api-key", "prefix": "Bearer\t"}}, "auth.prefix"),
    ({"auth": {"header": "api-key", "prefix": " Bearer "}}, "auth.prefix"),
    ({"auth": {"header": "api-key", "prefix": "x" * 33}}, "auth.prefix"),
    ({"auth": {"header": "api-key", "prefix": "sk-0123456789abcdef "}}, "auth.prefix"),
    # headers
    ({"headers": []}, "headers"),
    ({"headers": {"x-a": 1}}, "headers.x-a"),
    ({"headers": {"x-a": None}}, "headers.x-a"),
    ({"headers": {"x-a": ""}}, "headers.x-a"),
    ({"headers": {"x-a": " a"}}, "headers.x-a"),
    ({"headers": {"x-a": "a\r\nb: c"}}, "headers.x-a"),
    ({"headers": {"x-a": "ü"}}, "headers.x-a"),
    ({"headers": {"x-a": "x" * 1025}}, "headers.x-a"),
    ({"headers": {"x-a": "a", "X-A": "b"}}, "headers.X-A"),
    ({"headers": {f"x-{number}": "a" for number in range(21)}}, "headers"),
    *[
        ({"headers": {name: "a"}}, f"headers.{name}")
        for name in (
            *("Authorization", "api-key", "X-Api-Key", "x-goog-api-key", "apikey", "x-auth-token", "helicone-auth"),
            *("Ocp-Apim-Subscription-Key", "x-secret", "x-password", "X-Amz-Security-Token", "x-functions-code"),
            *("Connection", "Transfer-Encoding", "content-type", "Host", "x-forwarded-host", "proxy-connection"),
            *("x_a", "traceparent", "x-request-id", "idempotency-key", "x-original-url"),
        )
    ],
    *[
        ({"headers": {"x-tenant": value}}, "headers.x-tenant")
        for value in (
            *(KEY_SHAPED, f"id={KEY_SHAPED}", "Bearer abcdefgh12345678", "Basic dXNlcjpwYXNzd29yZA=="),
            *("0123456789abcdef" * 4, "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln"),
        )
    ],
    # paths
    ({"paths": []}, "paths"),
    ({"paths": {"images": "/x"}}, "paths.images"),
    ({"paths": {"messages": None}}, "paths.messages"),
    *[
        ({"paths": {"messages": path}}, "paths.messages")
        for path in (
            *("", "x", "/", "//x", "/a//b", "/a/", "/a/../b", "/a/%2e%2e/b", "/a%2fb", "/a\\b", "/a#b", "/a b"),
            *("/ü", "/{deployment}/x", "/{model}/{x}", "/a?m={model}", "https://x.example/a", "/a\r\nb"),
            *("/a?key=abcdefgh", "/a?api-key=abcdefgh", "/a?x=1&access_token=abcdefgh", "/a?code=abcdefgh"),
            *(f"/{KEY_SHAPED}/messages", "/" + "a" * 1024),
        )
    ],
    # dialect
    ({"dialect": ""}, "dialect"),
    ({"dialect": "OpenAI"}, "dialect"),
    ({"dialect": "no-such"}, "dialect"),
    # Together.
    ({"auth": {"header": "X-Tenant"}, "headers": {"x-tenant": "a"}}, "headers.x-tenant"),
]


@pytest.mark.parametrize(("fields", "path"), REFUSED)
def test_what_may_not_be_sent_is_refused_at_its_path_and_not_repeated(api, assert_refused, fields, path):
    answer = api.post("/providers", {**BODY, **fields})

    assert_refused(answer, 422, "invalid_request", path)
    assert KEY_SHAPED.encode() not in answer.content
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"auth": {"header": "Authorization", "prefix": "Api-Key "}},
        {"auth": {"header": "authorization", "prefix": ""}},
        {"auth": {"header": "x-goog-api-key"}},
        {"auth": {"header": "cf-aig-authorization", "prefix": "Bearer "}},
        {"headers": {"OpenAI-Organization": "org-0123456789abcdefghijABCD", "openai-project": "proj_" + "0a" * 20}},
        {"headers": {"anthropic-beta": "context-1m-2025-08-07,prompt-caching-2024-07-31", "User-Agent": "us/1.0"}},
        {"headers": {"x-goog-user-project": "our-project-12", "x-account-id": "01890a5d-ac96-774b-bcce-b302099a8057"}},
        {"headers": {"HTTP-Referer": "https://example.com/", "X-Title": "Our app"}},
        {"paths": {"messages": "/anthropic/v1/messages", "chat-completions": "/paas/v4/chat/completions"}},
        {"paths": {"completions": "/{model}/complete", "responses": "/r", "embeddings": "/a?api-version=1&x="}},
        {"paths": {"messages": "/accounts/a%20b/~x/messages"}},
    ],
)
def test_what_real_providers_want_is_accepted(api, fields):
    answer = api.post("/providers", {**BODY, **fields})

    assert answer.status_code == 201, answer.json()
    assert {name: answer.json()[name] for name in fields} == fields


def test_the_header_of_the_key_that_is_stored_is_no_static_one_later(api, assert_refused):
    made = api.post("/providers", {**BODY, "auth": {"header": "x-tenant"}}).json()

    assert_refused(api.patch(made["uri"], {"headers": {"X-Tenant": "a"}}), 422, "invalid_request", "headers.X-Tenant")
    assert api.patch(made["uri"], {"auth": None, "headers": {"X-Tenant": "a"}}).status_code == 200


def test_what_a_provider_deviates_in_counts_towards_the_bytes_of_the_snapshot(api):
    def used() -> int:
        quotas = api.get("/quotas").json()["quotas"]
        return int(next(one["used"] for one in quotas if one["name"] == "snapshotBytes"))

    made = api.post("/providers", BODY).json()
    plain = used()
    for name in NAMES:
        before = used()
        api.patch(made["uri"], {name: AZURE[name]})
        assert used() >= before + len(str(AZURE[name])) - 10
    api.patch(made["uri"], dict.fromkeys(NAMES))
    assert used() == plain
    api.delete(made["uri"])
    assert used() == 0


def test_the_etag_of_a_write_holds_whatever_the_order_of_the_headers(api):
    body = {
        "providerId": "mine",
        "name": "Mine",
        "baseUrl": "https://llm.example.com",
        "headers": {"x-z": "1", "x-a": "2"},
    }
    made = api.post("/providers", body)
    path = f"/providers/{made.json()['id']}"

    assert api.get(path).headers["etag"] == made.headers["etag"]
    again = api.patch(path, {"headers": {"x-a": "2", "x-z": "1"}}, if_match=made.headers["etag"])
    assert (again.status_code, again.headers["etag"]) == (200, made.headers["etag"])
