"""Who calls: an API key in `Authorization: Bearer`, checked by shape, then looked up by its digest."""

import re
from datetime import timedelta
from typing import Final, cast

from django.db import connection
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.models import Account, ApiKey
from accounts.principals import Principal
from gateway_core import tokens
from rest.errors import Unauthenticated

_USE_NOTED_EVERY: Final = timedelta(minutes=1)
_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+)", re.IGNORECASE | re.ASCII)


class AccountRequest(Request):
    """A request of the management API after authentication."""

    account: Account
    principal: Principal


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.account` and `request.principal`. All bad keys get the same answer."""

    def authenticate(self, request: Request) -> tuple[ApiKey, ApiKey] | None:
        """The API key, as user and as credential; None without an Authorization header.

        A failing database is no answer about the key: its error goes up, to 503.

        Raises:
            Unauthenticated: malformed, unknown, disabled or expired.
        """
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        found = _BEARER.fullmatch(header.strip())
        # A random or mistyped token is refused by its checksum, without a look-up.
        if found is None or not tokens.is_well_formed(tokens.API_KEY_PREFIX, found[1]):
            raise Unauthenticated
        api_key = ApiKey.objects.select_related("account").filter(digest=tokens.digest(found[1])).first()
        if api_key is None or api_key.disabled or (api_key.expires_at and api_key.expires_at <= timezone.now()):
            raise Unauthenticated
        _note_use(api_key)
        authenticated = cast("AccountRequest", request)
        authenticated.account = api_key.account
        authenticated.principal = Principal.of(api_key)
        return api_key, api_key

    def authenticate_header(self, request: Request) -> str:
        """What WWW-Authenticate says."""
        del request
        return "Bearer"


def _note_use(api_key: ApiKey) -> None:
    """Write down that a key was used: once a minute at most, and not while somebody else has its row locked.

    Not a write of the resource: `updated_at` and the ETag stay.
    """
    now = timezone.now()
    if api_key.last_used is not None and api_key.last_used > now - _USE_NOTED_EVERY:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_apikey SET last_used = %(now)s WHERE id IN ("
            "SELECT id FROM accounts_apikey WHERE id = %(id)s AND (last_used IS NULL OR last_used <= %(before)s) "
            "FOR NO KEY UPDATE SKIP LOCKED)",
            {"now": now, "id": api_key.id, "before": now - _USE_NOTED_EVERY},
        )
