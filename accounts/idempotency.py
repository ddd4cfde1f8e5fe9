"""Store the answers to requests with an Idempotency-Key; rest.idempotency seals and opens them."""

import hmac
from collections.abc import Callable

from django.db import connection, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import IdempotencyRecord
from rest.idempotency import KEPT_FOR, IdempotencyKeyInUse, IdempotencyKeyReused, Key


@transaction.atomic
def answer_once(request: Request, key: Key, respond: Callable[[], Response]) -> Response:
    """Return the recorded answer to this request, or make one with `respond` and record it.

    The write and the record are one transaction. If the process dies within it, neither exists, and the client's next
    try does the write. An error leaves no record.

    Raises:
        IdempotencyKeyInUse: another request with this key is in progress.
        IdempotencyKeyReused: the record belongs to a request with another body.
    """
    fingerprint = key.fingerprint(request.data)
    _lock(key)
    record = IdempotencyRecord.objects.filter(digest=key.digest).first()
    if record is not None:
        if record.expires_at > timezone.now():
            if not hmac.compare_digest(record.fingerprint, fingerprint):
                raise IdempotencyKeyReused
            return key.open(bytes(record.answer))
        record.delete()
    response = respond()
    IdempotencyRecord.objects.create(
        api_key_id=request.auth.pk,
        digest=key.digest,
        fingerprint=fingerprint,
        answer=key.seal(response),
        expires_at=timezone.now() + KEPT_FOR,
    )
    return response


def _lock(key: Key) -> None:
    # An advisory lock fails at once if another request holds it. A unique row would make this request wait.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(bytes.fromhex(key.digest[:16]), signed=True)]
        )
        if cursor.fetchone() != (True,):
            raise IdempotencyKeyInUse
