"""Fixtures of custom providers. The resolver is a stand-in: DNS is not ours, and tests do not talk to the network."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.base_urls import UpstreamRules


@pytest.fixture
def dns(monkeypatch) -> dict[str, list[str] | Exception]:
    """What names resolve to in this test: addresses, or the error that the resolver raises."""
    names: dict[str, list[str] | Exception] = {}

    def getaddrinfo(host, port, *_args, **_options):
        found = names.get(host, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(found, Exception):
            raise found
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.fixture
def production(settings) -> None:
    """What holds where the operator allows nothing."""
    settings.UPSTREAM_RULES = UpstreamRules()


@pytest.fixture
def create_provider(api) -> Callable[..., dict[str, Any]]:
    """Make a custom provider over the wire; what it answered."""

    def make(**fields):
        body = {"providerId": "my-ollama", "name": "Ollama", "baseUrl": "https://ollama.example.com", **fields}
        answer = api.post("/providers", body)
        assert answer.status_code == 201, answer.json()
        return answer.json()

    return make
