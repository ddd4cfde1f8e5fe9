"""The default permission: a route needs an API key unless its view says otherwise."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from rest.errors import Unauthenticated


class HasAccount(BasePermission):
    """Allow only requests with a valid API key; the key also names the account."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True for an authenticated request.

        Raises:
            Unauthenticated: the request has no valid API key.
        """
        del view
        if request.auth is None:
            raise Unauthenticated
        return True
