"""Sessions that a copy of the database does not open: a row holds a digest of the key, and encrypted data.

Django's own store keeps the key as the browser sends it. Its data are signed only, and allauth keeps the secret of an
authenticator app there while a user sets it up.

Source: docs/decisions/0094-copies-of-the-database.md.
"""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.sessions.backends import db
from django.utils import timezone

# The column has room for 40 characters.
_DIGEST_BYTES = 30


class SessionStore(db.SessionStore):
    """Django's store in the database, with the digest of the key in place of the key."""

    def _get_session_from_db(self) -> Any:
        found = self.model.objects.filter(
            session_key=_digest(self.session_key or ""), expire_date__gt=timezone.now()
        ).first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str) -> bool:
        """Whether a session has this key."""
        found: bool = self.model.objects.filter(session_key=_digest(session_key)).exists()
        return found

    def create_model_instance(self, data: Any) -> Any:
        """The row of the present session."""
        row = super().create_model_instance(data)
        row.session_key = _digest(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or the present one."""
        key = session_key or self.session_key
        if key:
            self.model.objects.filter(session_key=_digest(key)).delete()

    def encode(self, session_dict: dict[str, Any]) -> str:
        """Encrypt the session's data."""
        return fernet("sessions").encrypt(super().encode(session_dict).encode()).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Decrypt a session's data. Data of another SECRET_KEY are an empty session, as in Django's store."""
        try:
            plain = fernet("sessions").decrypt(session_data).decode()
        except InvalidToken:
            return {}
        data: dict[str, Any] = super().decode(plain)
        return data


def fernet(purpose: str) -> Fernet:
    """The cipher of one purpose of the dashboard, with a key derived from SECRET_KEY."""
    return _fernet_of(settings.SECRET_KEY, purpose)


@lru_cache(maxsize=8)
def _fernet_of(secret_key: str, purpose: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=f"gateway-admin dashboard {purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret_key.encode())))


def _digest(session_key: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(session_key.encode()).digest()[:_DIGEST_BYTES]).decode()
