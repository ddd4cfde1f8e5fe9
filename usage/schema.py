"""The parts of the OpenAPI document that only usage and credits have."""

from typing import Any

from rest.schema import ContractSchema
from usage.serializers import CreditsSerializer, UsageInvoicePreviewSerializer, UsageInvoiceSerializer


class QuerySchema(ContractSchema):
    """An answer that is made for its query: it has parameters, and no state that an ETag could name."""

    @property
    def _shows_object(self) -> bool:
        return False

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters = super()._get_parameters()
        if self.view.action != "list":
            parameters += ({"name": name, "in": "query", **told} for name, told in self.view.filters.items())
        return parameters


class TransactionsSchema(QuerySchema):
    """`{items}` of three kinds."""

    def get_response_serializers(self) -> Any:
        """An object with all of them."""
        kinds = (CreditsSerializer, UsageInvoiceSerializer, UsageInvoicePreviewSerializer)
        items = {"oneOf": [self.resolve_serializer(kind, "response").ref for kind in kinds]}
        return {
            "200": {
                "title": "Transactions",
                "description": "Every transaction of the account.",
                "type": "object",
                "properties": {"items": {"type": "array", "items": items, "description": "Newest first."}},
                "required": ["items"],
                "additionalProperties": False,
            }
        }
