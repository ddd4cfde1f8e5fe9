"""The view of `/data-plane/workers` (contract, section 8)."""

from typing import Any, ClassVar, Final

from django.urls import URLPattern, path
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.owned.views import AccountViews
from gateway_core import ids
from rest import uris
from rest.errors import Unavailable
from rest.fields import id_pattern
from rest.pagination import before_id_of, limit_of
from snapshots.models import Publication
from snapshots.serializers import WorkerSerializer, shown_worker
from snapshots.workers import read_workers


class WorkersUnknown(Unavailable):
    """Redis does not answer, and only Redis knows the workers."""

    code = "workers_unknown"


class WorkerViews(AccountViews):
    """The data plane's worker processes. Every account sees the same ones; some fields concern the account."""

    list_key = "aiGatewayWorkers"
    shape = WorkerSerializer
    filters: ClassVar[dict[str, dict[str, Any]]] = {
        "beforeId": {
            "description": "Show only workers that were started before this one. It may have ended.",
            "schema": {"type": "string", "pattern": id_pattern(ids.Prefix.WORKER)},
        }
    }

    def list(self, request: Request) -> Response:
        """List one page of the workers that writes wait for, newest first."""
        limit, before = limit_of(request), before_id_of(request, ids.Prefix.WORKER)
        account = self.account
        number = Publication.objects.filter(account=account).values_list("number", flat=True).first() or 0
        try:
            workers = read_workers()
        except RedisError:
            raise WorkersUnknown from None
        found = [
            shown_worker(workers, report, account=account.text_id, number=number)
            for report in workers.reports
            if before is None or report.id < ids.to_text(ids.Prefix.WORKER, before)
        ]
        next_page_uri = None
        if len(found) > limit:
            found = found[:limit]
            next_page_uri = uris.own_with(request, limit=limit, beforeId=found[-1]["id"])
        shown = self.shape(found, many=True, context=self.get_serializer_context()).data
        return Response({self.list_key: shown, "uri": uris.own(request), "nextPageUri": next_page_uri})


ROUTES: Final[list[URLPattern]] = [
    path("data-plane/workers", WorkerViews.as_view({"get": "list"}), name="data-plane-workers")
]
