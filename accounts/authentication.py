"""Authenticate a request by its API key: check the token in `Authorization: Bearer`, then look up its digest."""

import re
from contextlib import suppress
from typing import Final, cast

from django.db import OperationalError
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.heirs import is_in_force
from accounts.models import Account, ApiKey
from accounts.owned.last_used import WRITTEN_EVERY, note_uses
from accounts.principals import Principal
from gateway_core import tokens
from rest.errors import ApiKeyInvalid, Unauthenticated

_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+)", re.IGNORECASE | re.ASCII)


class AccountRequest(Request):
    """A request of the management API after authentication."""

    account: Account
    principal: Principal


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.account` and `request.principal`. All invalid keys get the same answer."""

    def authenticate(self, request: Request) -> tuple[ApiKey, ApiKey] | None:
        """Return the API key twice, as DRF's (user, auth); None without an Authorization header.

        An error of the database is raised unchanged and becomes a 503: it does not mean that the key is invalid.

        Raises:
            Unauthenticated: the header does not hold an API key.
            ApiKeyInvalid: the key is unknown, disabled or expired, or a key that made it has expired.
        """
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        found = _BEARER.fullmatch(header.strip())
        # The checksum shows a random or mistyped token without a query.
        if found is None or not tokens.is_well_formed(tokens.API_KEY_PREFIX, found[1]):
            raise Unauthenticated
        api_key = ApiKey.objects.select_related("account").filter(digest=tokens.digest(found[1])).first()
        if api_key is None or not is_in_force(api_key):
            raise ApiKeyInvalid
        _note_use(api_key)
        authenticated = cast("AccountRequest", request)
        authenticated.account = api_key.account
        authenticated.principal = Principal.of(api_key)
        return api_key, api_key

    def authenticate_header(self, request: Request) -> str:
        """The value of the WWW-Authenticate header of a 401."""
        del request
        return "Bearer"


def _note_use(api_key: ApiKey) -> None:
    """Write when the key was last used. A database that takes no writes must not cost the request that only reads."""
    now = timezone.now()
    if api_key.last_used is None or api_key.last_used < now - WRITTEN_EVERY:
        with suppress(OperationalError):
            note_uses(ApiKey, {(api_key.id, api_key.account_id): now})
