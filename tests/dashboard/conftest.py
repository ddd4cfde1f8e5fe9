"""Who opens the dashboard's pages in tests."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts import services
from accounts.models import Account, Membership


@pytest.fixture
def sign_in() -> Callable[..., Client]:
    """`client = sign_in(account, "victor", Membership.Role.VIEWER)`: a browser of a new user of an account."""

    def make(account: Account, username: str = "alice", role: str = Membership.Role.OWNER) -> Client:
        user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture(autouse=True)
def cheap_hasher(settings: Any) -> None:
    """What a password's hash costs is Django's; a thousand users need not pay it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
