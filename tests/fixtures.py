"""Fixtures of the management API: two accounts, and clients that hold their keys."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import Client

from accounts import services
from accounts.models import Account
from accounts.principals import Principal
from gateway_core import ids


class Api:
    """A client of the management API: JSON in, JSON out, one API key. Exceptions become answers, as on a server."""

    def __init__(self, token: str | None = None, **headers: str) -> None:
        self.token = token
        self.headers = headers
        self._client = Client(raise_request_exception=False)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request.

        Args:
            method: any.
            path: with or without its leading slash, with its query; an absolute `uri` of an answer serves too.
            body: encoded as JSON, unless it is bytes.
            headers: by Python names: `if_match="…"`.
        """
        sent = {"host": "testserver", **self.headers, **headers}
        if self.token is not None:
            sent.setdefault("authorization", f"Bearer {self.token}")
        content_type = sent.pop("content_type", "application/json")
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        path = path.removeprefix("http://testserver")
        return self._client.generic(
            method,
            path if path.startswith("/") else f"/{path}",
            data,
            content_type=content_type,
            headers={name.replace("_", "-"): value for name, value in sent.items()},
        )

    def get(self, path: str, **headers: str) -> Any:
        """GET."""
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """POST."""
        return self.request("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        """PATCH."""
        return self.request("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        """DELETE."""
        return self.request("DELETE", path, **headers)


def open_account(name: str) -> tuple[Account, Principal, Api]:
    """An account with its first API key, and a client that holds it."""
    account = services.create_account(name=name)
    nobody = Principal(ids.to_text(ids.Prefix.USER, ids.new_id()))
    issued = services.create_api_key(account=account, by=nobody, name="first")
    return account, Principal.of(issued.api_key), Api(issued.token)


@pytest.fixture
def alice(db: None) -> tuple[Account, Principal, Api]:
    """Account, principal and client of the account that a test is about."""
    return open_account("Alice's")


@pytest.fixture
def charlie(db: None) -> tuple[Account, Principal, Api]:
    """The same of a stranger's account."""
    return open_account("Charlie's")


@pytest.fixture
def account(alice: tuple[Account, Principal, Api]) -> Account:
    """The account that a test is about."""
    return alice[0]


@pytest.fixture
def principal(alice: tuple[Account, Principal, Api]) -> Principal:
    """Who acts in `account`: the API key of `api`."""
    return alice[1]


@pytest.fixture
def api(alice: tuple[Account, Principal, Api]) -> Api:
    """A client with an API key of `account`."""
    return alice[2]


@pytest.fixture
def bob(account: Account, principal: Principal) -> Api:
    """A client with another API key of the same account."""
    return Api(services.create_api_key(account=account, by=principal, name="second").token)


@pytest.fixture
def other_account(charlie: tuple[Account, Principal, Api]) -> Account:
    """A stranger's account."""
    return charlie[0]


@pytest.fixture
def other_principal(charlie: tuple[Account, Principal, Api]) -> Principal:
    """Who acts in `other_account`."""
    return charlie[1]


@pytest.fixture
def other_api(charlie: tuple[Account, Principal, Api]) -> Api:
    """A client with an API key of a stranger's account."""
    return charlie[2]


@pytest.fixture
def anonymous() -> Api:
    """A client without an API key."""
    return Api()


@pytest.fixture
def assert_refused() -> Callable[..., dict[str, str]]:
    """`assert_refused(response, 422, "invalid_request", "name")`: an error in the contract's form, at these paths."""

    def check(response: Any, status: int, code: str, *paths: str) -> dict[str, str]:
        body = response.json()
        assert (response.status_code, body["errorCode"]) == (status, code), body
        assert set(body) == {"errorCode", "statusCode", "msg", "details"}
        assert body["statusCode"] == status
        assert all(isinstance(text, str) and text for text in [body["msg"], *body["details"].values()])
        assert set(body["details"]) >= set(paths), body["details"]
        details: dict[str, str] = body["details"]
        return details

    return check
