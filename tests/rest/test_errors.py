"""Holds: rest.errors

The tree of errors, and the one shape that it has on the wire.
"""

import re
from pathlib import Path

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions as drf

import gateway_admin.urls
from rest import errors
from rest.errors import GatewayError

assert gateway_admin.urls  # every room of the API is imported, and with it every error

TABLE = re.findall(r"^\| `(\w+)` \| (\d+) \|", Path("docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)


def kinds(kind=GatewayError):
    for child in kind.__subclasses__():
        if not child.__module__.startswith("tests."):
            yield child
            yield from kinds(child)


def of_the_api():
    """What grows on a branch that has a status; rooms without routes (the ledger) raise what their commands show."""
    return [kind for kind in kinds() if any(one in errors.statuses() for one in kind.__mro__)]


@pytest.mark.parametrize("kind", of_the_api(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_a_slug_and_a_line_in_the_documentation(kind):
    assert re.fullmatch(r"[A-Z`].*[.)`>]", kind.message()), kind.message()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert "code" in vars(kind), "its own, not its parent's"
    assert (kind.code, str(errors.status_of(kind))) in TABLE


def test_no_two_errors_share_a_code():
    codes = [kind.code for kind in of_the_api()]

    assert len(codes) == len(set(codes))


def test_the_documentation_lists_nothing_that_does_not_exist():
    assert {code for code, _ in TABLE} == {kind.code for kind in of_the_api()}


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (Http404(), 404, "not_found"),
        (drf.NotFound(), 404, "not_found"),
        (drf.NotAuthenticated(), 401, "unauthenticated"),
        (drf.AuthenticationFailed(), 401, "unauthenticated"),
        (PermissionDenied(), 403, "forbidden"),
        (drf.PermissionDenied(), 403, "forbidden"),
        (drf.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (drf.UnsupportedMediaType("text/plain"), 415, "media_type_unsupported"),
        (drf.Throttled(), 429, "too_many_requests"),
        (drf.ParseError(), 400, "request_malformed"),
        (RequestDataTooBig(), 413, "body_too_large"),
        (SuspiciousOperation(), 400, "request_malformed"),
        (OperationalError(), 503, "unavailable"),
        (InterfaceError(), 503, "unavailable"),
        (drf.ValidationError({"name": ["x"]}), 422, "invalid_request"),
    ],
)
def test_what_a_framework_raises_becomes_an_error_of_ours(raised, status, code):
    response = errors.respond_to_exception(raised, {})

    assert response is not None
    assert (response.status_code, response.data["errorCode"], response.data["statusCode"]) == (status, code, status)


def test_what_nobody_foresaw_is_left_to_the_framework_which_logs_it():
    assert errors.respond_to_exception(ZeroDivisionError(), {}) is None


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (errors.Unauthenticated(), ("WWW-Authenticate", "Bearer")),
        (errors.TooManyRequests(), ("Retry-After", "1")),
        (errors.Unavailable(), ("Retry-After", "1")),
    ],
)
def test_an_error_brings_the_header_that_its_status_asks_for(error, header):
    inside, outside = errors.respond_to_exception(error, {}), errors.http_response(error)

    assert inside is not None
    assert inside.headers[header[0]] == outside.headers[header[0]] == header[1]


@pytest.mark.parametrize(
    ("detail", "flat"),
    [
        ({"name": ["a", "b"]}, {"name": "a b"}),
        ({"router": {"rules": [{}, {"steps": [{"keys": ["x"]}]}]}}, {"router.rules[1].steps[0].keys": "x"}),
        ({"models": {2: ["x"]}}, {"models[2]": "x"}),
        ({"access": {"non_field_errors": ["x"]}}, {"access": "x"}),
        (["x"], {"$": "x"}),
        ({"non_field_errors": ["x"]}, {"$": "x"}),
        ("x", {"$": "x"}),
        ({"a": {"b": "x"}}, {"a.b": "x"}),
    ],
)
def test_nested_faults_become_texts_by_json_path(detail, flat):
    assert errors.details_of(detail) == flat


def test_a_path_shows_no_secret_that_was_sent_as_a_name_and_stays_short():
    assert "abcdefghijklmnop" not in errors.json_path(("sk-abcdefghijklmnopqrstuvwxyz",))
    assert len(errors.json_path(("x" * 5000,))) == 200
