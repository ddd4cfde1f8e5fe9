"""Holds: gateway_admin.urls

Every route of the API × every method × no key, bad key, another account's key.

The table is checked against the URL map: a new route fails this module until it is listed here.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.urls import URLPattern, get_resolver

from gateway_core import tokens
from tests.events import an_event
from tests.fixtures import Api
from usage import ingest

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE")
# Pages of their own, with a sign-in of their own; the dashboard's tests walk them.
ELSEWHERE = ("dashboard/",)


@dataclass(frozen=True)
class Route:
    """What the matrix needs to know of a route."""

    methods: tuple[str, ...]
    # A body that is good where a method takes one.
    body: Any = None
    # Makes the object that the path names, and returns its ID.
    make: Callable[[Api], str] | None = None
    # Only what no account owns is open.
    is_open: bool = False

    @property
    def known(self) -> set[str]:
        """Every GET is a HEAD too."""
        return {*self.methods, *(["HEAD"] if "GET" in self.methods else [])}


def make(path: str, body: dict[str, Any]) -> Callable[[Api], str]:
    def post(api: Api) -> str:
        made = api.post(path, body)
        assert made.status_code == 201, made.content
        return str(made.json()["id"])

    return post


def use(api: Api) -> str:
    """Have the account make a request; returns the request's ID."""
    event = an_event(api.get("gateway-config").json()["accountId"], request_id=f"req_{uuid.uuid4().hex}")
    ingest.write([event])
    return event.request_id


LIST = ("GET", "POST")
ITEM = ("GET", "PATCH", "DELETE")
ACCESS_KEY = make("access-keys", {})
API_KEY = make("api-keys", {})
CONFIGURATION = make("access-key-configurations", {"name": "c"})
PROVIDER_KEY = make("provider-keys", {"providerId": "openai", "name": "p", "value": "sk-0123456789abcdefghijklmnop"})
PROVIDER = make("providers", {"providerId": "mine", "name": "m", "baseUrl": "https://llm.example.com"})

ROUTES: dict[str, Route] = {
    "healthz": Route(("GET",), is_open=True),
    "readyz": Route(("GET",), is_open=True),
    "metrics": Route(("GET",), is_open=True),
    "openapi.json": Route(("GET",), is_open=True),
    "docs": Route(("GET",), is_open=True),
    "access-keys": Route(LIST, {}),
    "access-keys/<str:id>": Route(ITEM, {}, ACCESS_KEY),
    "access-keys/<str:id>/explain": Route(("POST",), {"model": "openai:gpt-4o"}, ACCESS_KEY),
    "access-key-configurations": Route(LIST, {"name": "c"}),
    "access-key-configurations/explain": Route(("POST",), {"model": "openai:gpt-4o"}),
    "access-key-configurations/<str:id>": Route(ITEM, {}, CONFIGURATION),
    "provider-keys": Route(LIST, {"providerId": "openai", "name": "p", "value": "sk-0123456789abcdefghijklmnop"}),
    "provider-keys/<str:id>": Route(ITEM, {}, PROVIDER_KEY),
    "provider-keys/<str:id>/rotate": Route(
        ("POST",), {"name": "q", "value": "sk-0123456789abcdefghijklmnop"}, PROVIDER_KEY
    ),
    "providers": Route(LIST, {"providerId": "mine", "name": "m", "baseUrl": "https://llm.example.com"}),
    "providers/<str:id>": Route(ITEM, {}, PROVIDER),
    "api-keys": Route(LIST, {}),
    "api-keys/<str:id>": Route(ITEM, {}, API_KEY),
    "quotas": Route(("GET",)),
    "gateway-config": Route(("GET", "PATCH"), {}),
    "catalog/providers": Route(("GET",)),
    "catalog/models": Route(("GET",)),
    "data-plane/workers": Route(("GET",)),
    "usage": Route(("GET",)),
    "usage/overview": Route(("GET",)),
    "usage/requests/<str:id>": Route(("GET",), make=use),
    "credits/balance": Route(("GET",)),
    "credits/transactions": Route(("GET",)),
    # The payment provider signs what it sends; its own tests hold the signature.
    "webhooks/stripe": Route(("POST",), {}, is_open=True),
    "credits/checkout-session": Route(("POST",), {"amount": 100}),
}
PROTECTED = [route for route, told in ROUTES.items() if not told.is_open]


def served() -> dict[str, URLPattern]:
    """Every route of the URL map, but those that stand elsewhere."""
    found = {}
    for pattern in get_resolver().url_patterns:
        route = str(pattern.pattern)
        if route not in ELSEWHERE:
            assert isinstance(pattern, URLPattern), f"{route} includes others; walk them"
            found[route] = pattern
    return found


def path_of(route: str, owner: Api) -> str:
    told = ROUTES[route]
    return f"/{route}" if told.make is None else f"/{route}".replace("<str:id>", told.make(owner))


def send(client: Api, method: str, route: str, path: str) -> Any:
    body = ROUTES[route].body if method in {"POST", "PATCH", "PUT"} else None
    return client.request(method, path, body)


def test_the_table_lists_exactly_the_routes_that_are_served():
    assert set(ROUTES) == set(served())


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_a_route_knows_exactly_the_methods_that_the_table_gives_it(route, api):
    path = path_of(route, api)

    for method in METHODS:
        answer = send(api, method, route, path)
        if method in ROUTES[route].known:
            assert answer.status_code != 405, method
            # What the methods before it did to the object is not the matter here.
            assert answer.status_code < 500 or answer.status_code == 503, (method, answer.content)
        else:
            assert answer.status_code == 405, method
            assert set(answer["Allow"].split(", ")) == ROUTES[route].known


@pytest.mark.parametrize("route", PROTECTED)
@pytest.mark.parametrize("key", ["none", "malformed", "unknown", "an access key"])
def test_nobody_gets_in_without_a_good_api_key(route, key, api, account, principal):
    path = path_of(route, api)
    client = Api(
        {
            "none": None,
            "malformed": "gwa_nonsense",
            "unknown": tokens.generate(tokens.API_KEY_PREFIX),
            "an access key": api.post("access-keys", {}).json()["token"],
        }[key]
    )

    for method in METHODS:
        answer = send(client, method, route, path)

        assert answer.status_code == 401, (method, answer.content)
        assert answer["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert answer.json()["errorCode"] == ("api_key_invalid" if key == "unknown" else "unauthenticated")


@pytest.mark.parametrize("route", [route for route in PROTECTED if ROUTES[route].make])
def test_another_accounts_object_does_not_exist(route, api, other_api):
    path = path_of(route, other_api)
    item = path.removesuffix("/rotate").removesuffix("/explain")
    before = other_api.get(item).content

    for method in METHODS:
        answer = send(api, method, route, path)
        assert answer.status_code == (404 if method in ROUTES[route].known else 405), (method, answer.content)

    assert other_api.get(item).content == before


@pytest.mark.parametrize("route", [route for route in PROTECTED if ROUTES[route].methods == LIST])
def test_a_list_shows_nothing_of_another_account(route, api, other_api):
    foreign = other_api.post(route, ROUTES[route].body).json()["id"]

    listed = api.get(route).content.decode()

    assert foreign not in listed


@pytest.mark.parametrize(
    "route", sorted(route for route, told in ROUTES.items() if told.is_open and "GET" in told.methods)
)
def test_an_open_route_needs_no_key_and_minds_no_bad_one(route, anonymous, db):
    assert anonymous.get(route).status_code == 200
    assert Api("gwa_nonsense").get(route).status_code == 200


@pytest.mark.parametrize("route", PROTECTED)
def test_an_unknown_query_parameter_is_refused_on_every_route(route, api):
    path = path_of(route, api)

    for method in ROUTES[route].methods:
        answer = send(api, method, route, f"{path}?colour=blue")
        assert answer.status_code == 400, (method, answer.content)
        assert answer.json()["errorCode"] == "query_invalid"
        assert set(answer.json()["details"]) == {"colour"}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_a_trailing_slash_is_404_on_every_route(route, api, assert_refused):
    assert_refused(api.get(path_of(route, api) + "/"), 404, "not_found")


@pytest.mark.parametrize("route", [route for route in sorted(ROUTES) if "GET" in ROUTES[route].methods])
def test_head_has_the_status_and_headers_of_get_on_every_route(route, api):
    path = path_of(route, api)
    get, head = api.get(path), api.request("HEAD", path)

    # Metrics hold ages, which are longer by a digit now and then.
    is_of_the_moment = route == "metrics"
    passing = {"Set-Cookie", "Vary"} | ({"Content-Length"} if is_of_the_moment else set())

    def lasting(answer):
        return {name: value for name, value in answer.headers.items() if name not in passing}

    assert head.status_code == get.status_code
    assert lasting(head) == lasting(get)
    assert int(get["Content-Length"]) == len(get.content)
    assert int(head["Content-Length"]) == len(get.content) or is_of_the_moment
    assert head.content == b""


@pytest.mark.parametrize("route", [route for route in PROTECTED if {"POST", "PATCH"} & set(ROUTES[route].methods)])
def test_every_route_that_takes_a_body_refuses_what_is_no_json_object(route, api):
    path = path_of(route, api)
    hostile = {
        b"": 400,
        b"{": 400,
        b'{"name": "\\ud800"}': 400,
        b'{"name": NaN}': 400,
        b"\xff": 400,
        b'{"a":' * 2000 + b"1" + b"}" * 2000: 400,
        b"[" * 100_000: 400,
        b'{"name": "a", "name": "a"}': 400,
        b" " * (1024 * 1024 + 1): 413,
        b"[]": 422,
        b"null": 422,
        b'"text"': 422,
        b'{"name": "a\\u0000b"}': 422,
        b'{"n\\u0000me": 1}': 422,
        b'{"\\u0000": "\\u0000"}': 422,
        b'{"name": 123456789012345678901234567890}': 422,
        b'{"unknownField": 1}': 422,
    }

    for method in {"POST", "PATCH"} & set(ROUTES[route].methods):
        for body, status in hostile.items():
            answer = api.request(method, path, body)
            assert answer.status_code == status, (method, body[:40], answer.content)
            assert answer.json()["statusCode"] == status
        assert api.request(method, path, b"{}", content_type="text/plain").status_code == 415
