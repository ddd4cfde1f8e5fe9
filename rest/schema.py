"""The OpenAPI document, derived from the views."""

from drf_spectacular.openapi import AutoSchema


class ContractSchema(AutoSchema):
    """What every operation of this API has in common."""
