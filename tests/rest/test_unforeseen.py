"""Holds: rest.errors

What nobody foresaw: 500 in the API's own form, in the log whole, in the answer not at all.
"""

import logging

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.response import Response

from rest.errors import Conflict
from rest.views import RestViews
from tests.fixtures import Api

SECRET = "a detail that is nobody's business"


class Failing(RestViews):
    """Fails in the way that its route says."""

    authentication_classes = ()
    permission_classes = ()

    def unforeseen(self, _request: object) -> Response:
        raise ZeroDivisionError(SECRET)


def outside(_request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError(SECRET)


def foreseen(_request: HttpRequest) -> HttpResponse:
    raise Conflict(details={"name": "taken"})


urlpatterns = [
    path("unforeseen", Failing.as_view({"get": "unforeseen"})),
    path("outside", outside),
    path("foreseen", foreseen),
]
handler400 = "rest.errors.request_refused"
handler403 = "rest.errors.permission_refused"
handler404 = "rest.errors.route_unknown"
handler500 = "rest.errors.failed"

pytestmark = pytest.mark.urls(__name__)


@pytest.mark.parametrize("route", ["unforeseen", "outside"])
def test_the_answer_tells_nothing_and_the_log_everything(route, assert_refused, caplog):
    with caplog.at_level(logging.ERROR):
        answer = Api().get(route)

    assert_refused(answer, 500, "internal_error")
    assert SECRET not in answer.content.decode()
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_an_error_of_ours_outside_of_the_rest_framework_has_the_same_form(assert_refused):
    assert_refused(Api().get("foreseen"), 409, "conflict", "name")


def test_an_unknown_route_has_the_same_form(assert_refused):
    assert_refused(Api().get("nowhere"), 404, "not_found")
