"""Who may pass: every route needs an account, but those that say otherwise in their own view."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from rest.errors import Unauthenticated


class HasAccount(BasePermission):
    """The request came with an API key that is good, and so belongs to an account."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """True, or an Unauthenticated error."""
        del view
        if request.auth is None:
            raise Unauthenticated
        return True
