"""Holds: rest.schema, gateway_admin.urls

The OpenAPI document says what there is: every route and method, and nothing that is not.
"""

import json
import re

import pytest

from rest.documents import document
from tests.contract.test_every_route import ELSEWHERE, ROUTES
from tests.fixtures import Api

# What describes the API is no part of it; a payment provider's notices are its own format.
NOT_DESCRIBED = {"openapi.json", "docs", "metrics", "webhooks/stripe", *ELSEWHERE}
METHODS = {"get", "post", "patch", "delete"}


def test_the_document_has_every_route_with_every_method_and_no_other():
    described = {
        (path, method.upper()) for path, item in document()["paths"].items() for method in item if method in METHODS
    }

    assert described == {
        ("/" + route.replace("<str:id>", "{id}"), method)
        for route, told in ROUTES.items()
        if route not in NOT_DESCRIBED
        for method in told.methods
    }


def test_every_operation_has_a_name_of_its_own():
    names = [operation["operationId"] for item in document()["paths"].values() for operation in item.values()]

    assert len(names) == len(set(names))


def test_every_object_that_is_described_is_closed():
    loose = [
        name
        for name, schema in document()["components"]["schemas"].items()
        if schema.get("type") == "object" and "additionalProperties" not in schema
    ]

    assert loose == []


def test_no_example_looks_like_a_secret():
    assert not re.search(r"gw[ka]_[0-9A-Za-z]{8}|sk-[A-Za-z0-9]", json.dumps(document()))


@pytest.mark.django_db
def test_it_is_served_with_the_base_that_the_client_called():
    served = Api().get("openapi.json", host="localhost").json()

    assert served["servers"] == [{"url": "http://localhost"}]
    assert {**document(), "servers": served["servers"]} == served
