"""`/usage`, `/usage/overview`, `/credits/…`, and the payment provider's webhook."""

import uuid
from datetime import datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any, ClassVar, Final

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Account
from accounts.owned.views import AccountViews
from gateway_core import ids
from providers.catalog import current_catalog
from providers.models import Provider
from rest import uris
from rest.errors import MethodNotAllowed, NotFound, QueryInvalid, http_response
from rest.fields import TimestampField, id_pattern
from rest.pagination import limit_of, one_value
from usage import checkout, ledger, reading, traces
from usage.models import LedgerEntry, Rollup
from usage.schema import QuerySchema, TransactionsSchema
from usage.serializers import (
    BalanceSerializer,
    CheckoutSessionForm,
    CheckoutSessionSerializer,
    CreditsSerializer,
    Names,
    OverviewSerializer,
    RequestTraceSerializer,
    UsageEventSerializer,
    UsageInvoicePreviewSerializer,
    UsageInvoiceSerializer,
    cost_text,
)

_TIMESTAMP: Final = {"type": "string", "format": "date-time"}
_START: Final = {
    "description": "Only what began at this time or later. RFC 3339 with an offset.",
    "required": True,
    "schema": _TIMESTAMP,
}
_END: Final = {"description": "Only what began at this time or earlier.", "schema": _TIMESTAMP}


class UsageEventViews(AccountViews):
    """`/usage`: the attempts of an account."""

    list_key = "aiGatewayUsage"
    shape = UsageEventSerializer
    schema = QuerySchema()
    filters: ClassVar[dict[str, dict[str, Any]]] = {
        "startTime": _START,
        "endTime": _END,
        "accessKeyId": {
            "description": "Only attempts for this access key, which may have been deleted since.",
            "schema": {"type": "string", "pattern": id_pattern(ids.Prefix.ACCESS_KEY)},
        },
        "includeRetries": {
            "description": "Whether attempts that another one followed are listed too.",
            "schema": {"type": "boolean", "default": False},
        },
        "cursor": {
            "description": "Only what stands after this place; nextPageUri holds it.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{32}$"},
        },
    }

    def list(self, request: Request) -> Response:
        """One page of attempts, newest first."""
        limit, account = limit_of(request), self.account
        start, end = _bounds(request)
        found = reading.events(
            account,
            start=start,
            end=end,
            access_key=_access_key(request),
            with_retries=_is_on(request, "includeRetries"),
            after=_place(one_value(request, "cursor")),
            limit=limit + 1,
        )
        next_page_uri = None
        if len(found) > limit:
            found = found[:limit]
            next_page_uri = uris.own_with(
                request, limit=limit, cursor=reading.Place(found[-1].event_time, found[-1].id).to_text()
            )
        context = {**self.get_serializer_context(), "names": _names(account)}
        shown = UsageEventSerializer(found, many=True, context=context).data
        return Response({self.list_key: shown, "uri": uris.own(request), "nextPageUri": next_page_uri})


class RequestTraceViews(AccountViews):
    """`/usage/requests/{requestId}`: how a request went."""

    shape = RequestTraceSerializer
    schema = QuerySchema()

    def retrieve(self, _request: Request, id: str) -> Response:  # noqa: A002 -- the path parameter's name
        """The attempts of the newest request with this ID, and what was passed over."""
        found = traces.of_request(self.account, id)
        if found is None:
            raise NotFound
        context = {**self.get_serializer_context(), "names": _names(self.account)}
        return Response(self.shape(found, context=context).data)


class UsageOverviewViews(AccountViews):
    """`/usage/overview`: sums by day."""

    shape = OverviewSerializer
    schema = QuerySchema()
    filters: ClassVar[dict[str, dict[str, Any]]] = {
        "startTime": _START,
        "endTime": _END,
        "groupBy": {
            "description": "The dimension of the buckets of a day.",
            "schema": {"type": "string", "enum": ["provider", "accessKey"], "default": "provider"},
        },
    }

    def retrieve(self, request: Request) -> Response:
        """Sums by UTC day, and by provider or access key."""
        start, end = _bounds(request)
        by = _dimension(request)
        buckets = reading.overview(self.account, start=start, end=end, by=by)
        # Thousands of buckets are of a few keys: each text is made once.
        key_text = cache(partial(_group_key, by))
        return Response(
            {
                "uri": uris.own(request),
                "buckets": [
                    {
                        "bucketStart": f"{bucket.day}T00:00:00Z",
                        "groupKey": key_text(bucket.group_key),
                        "cost": cost_text(bucket.cost),
                        "requests": bucket.requests,
                        "errors": bucket.errors,
                    }
                    for bucket in buckets
                ],
                "totals": {
                    "cost": cost_text(sum((bucket.cost for bucket in buckets), Decimal(0))),
                    "requests": sum(bucket.requests for bucket in buckets),
                    "errors": sum(bucket.errors for bucket in buckets),
                },
            }
        )


class CreditsBalanceViews(AccountViews):
    """`/credits/balance`: the account's balance."""

    shape = BalanceSerializer

    def retrieve(self, _request: Request) -> Response:
        """What the account's credits are worth now."""
        balance = ledger.balance_of(self.account)
        return Response({"balanceCents": ledger.whole_cents(balance)})


class CreditsTransactionsViews(AccountViews):
    """`/credits/transactions`: grants and months of usage."""

    schema = TransactionsSchema()
    filters: ClassVar[dict[str, dict[str, Any]]] = {}

    def retrieve(self, _request: Request) -> Response:
        """Credits that came in, and months of usage, newest first."""
        return Response({"items": [_shape_of(one)(one).data for one in reading.transactions(self.account)]})


class CheckoutSessionViews(AccountViews):
    """`/credits/checkout-session`: buying credits."""

    shape = CheckoutSessionSerializer
    forms = {"start": CheckoutSessionForm}

    def start(self, _request: Request) -> Response:
        """Make a payment page for buying credits."""
        cents = self.read(CheckoutSessionForm)["amount"]
        by = self.principal
        return Response(self.data_of(checkout.start_checkout(account=self.account, by=by, cents=cents)))


@csrf_exempt
def take_notice(request: HttpRequest) -> HttpResponse:
    """The payment provider's webhook for payments. It needs no API key; only the signature proves its sender."""
    if request.method != "POST":
        refusal = http_response(MethodNotAllowed())
        refusal.headers["Allow"] = "POST"
        return refusal
    # Before the body: a notice that nobody can check is not waited for.
    checkout.check_notices_are_taken()
    checkout.take_notice(body=request.body, signature=request.headers.get("Stripe-Signature"))
    return HttpResponse(status=204)


def _shape_of(one: LedgerEntry | reading.Invoice) -> type[Any]:
    if isinstance(one, LedgerEntry):
        return CreditsSerializer
    return UsageInvoicePreviewSerializer if one.is_preview else UsageInvoiceSerializer


def _names(account: Account) -> Names:
    custom = dict(Provider.objects.filter(account=account).values_list("slug", "name"))
    return Names(custom, current_catalog())


def _group_key(by: Rollup.Dimension, key: str) -> str:
    return key if by == Rollup.Dimension.PROVIDER else ids.to_text(ids.Prefix.ACCESS_KEY, uuid.UUID(key))


# ── the query ──


def _bounds(request: Request) -> tuple[datetime, datetime | None]:
    """`startTime` and `endTime`.

    Raises:
        QueryInvalid: the first is missing, one of them is not a time, or they are in the wrong order.
    """
    start, end = _moment(request, "startTime"), _moment(request, "endTime")
    if start is None:
        raise QueryInvalid(details={"startTime": "This parameter is required."})
    if end is not None and end < start:
        raise QueryInvalid(details={"endTime": "This is before startTime."})
    return start, end


def _moment(request: Request, name: str) -> datetime | None:
    text = one_value(request, name)
    if text is None:
        return None
    try:
        # An offset's plus that was not escaped has become a space on its way.
        moment: datetime = TimestampField().run_validation(text.replace(" ", "+"))
    except ValidationError:
        raise QueryInvalid(
            details={name: "This must be an RFC 3339 time with an offset: 2027-01-31T12:00:00Z."}
        ) from None
    return moment


def _access_key(request: Request) -> uuid.UUID | None:
    text = one_value(request, "accessKeyId")
    if text is None:
        return None
    try:
        return ids.from_text(ids.Prefix.ACCESS_KEY, text)
    except ids.InvalidId:
        raise QueryInvalid(details={"accessKeyId": "This must be an access key's ID (aigk_…)."}) from None


def _is_on(request: Request, name: str) -> bool:
    text = one_value(request, name)
    if text not in {None, "true", "false"}:
        raise QueryInvalid(details={name: "This must be true or false."})
    return text == "true"


def _dimension(request: Request) -> Rollup.Dimension:
    text = one_value(request, "groupBy")
    if text in {None, "provider"}:
        return Rollup.Dimension.PROVIDER
    if text == "accessKey":
        return Rollup.Dimension.ACCESS_KEY
    raise QueryInvalid(details={"groupBy": "This must be provider or accessKey."})


def _place(cursor: str | None) -> reading.Place | None:
    """The place that a cursor names.

    Raises:
        QueryInvalid: the text is not a cursor of this API.
    """
    if cursor is None:
        return None
    try:
        return reading.Place.from_text(cursor)
    except ValueError:
        raise QueryInvalid(details={"cursor": "This must be the cursor of a nextPageUri."}) from None


ROUTES: Final[list[URLPattern]] = [
    path("usage", UsageEventViews.as_view({"get": "list"}), name="usage"),
    path("usage/requests/<str:id>", RequestTraceViews.as_view({"get": "retrieve"}), name="usage-request"),
    path("usage/overview", UsageOverviewViews.as_view({"get": "retrieve"}), name="usage-overview"),
    path("credits/balance", CreditsBalanceViews.as_view({"get": "retrieve"}), name="credits-balance"),
    path("credits/transactions", CreditsTransactionsViews.as_view({"get": "retrieve"}), name="credits-transactions"),
    path("credits/checkout-session", CheckoutSessionViews.as_view({"post": "start"}), name="credits-checkout-session"),
    path("webhooks/stripe", take_notice, name="stripe-notices"),
]
