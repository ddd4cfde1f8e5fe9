"""Holds: dashboard.sessions

Whoever has a copy of the database opens nothing with it: not the dashboard, not the API, not an invitation.
"""

import base64
import json
import re
import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.apps import apps
from django.test import Client

from accounts import services
from accounts.members import InvitationInvalid, invite, join
from accounts.models import Membership
from accounts.principals import Principal
from tests.fixtures import Api

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def secrets(account):
    """What opens something, after a user has signed in, set up an authenticator app, invited and made an API key."""
    alice = services.create_user(
        username="alice", email="", password=PASSWORD, account=account, role=Membership.Role.OWNER
    )
    client = Client()
    client.post("/dashboard/login", {"login": "alice", "password": PASSWORD})
    client.post("/dashboard/you/confirm", {"password": PASSWORD})
    secret = client.get("/dashboard/you/authenticator").content.decode().split("data-totp-secret>")[1].split("<")[0]
    by = Principal.of(alice)
    begun = {
        "session": client.session.session_key,
        "authenticator": secret,
        "invitation": invite(account=account, name="Bob", role="viewer", by=by).token,
        "API key": services.create_api_key(account=account, by=by).token,
    }
    yield_while_setting_up = texts()
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    shown = client.post("/dashboard/you/authenticator", {"code": code}, follow=True).content.decode()
    codes = re.findall(r"<li><code>(\w+)</code>", shown)
    assert len(codes) == 10
    return begun | {"session": client.session.session_key}, codes, yield_while_setting_up


def texts():
    """Every value of every table as text, and the words within, decoded from base64 too where that is possible."""
    found = set()
    for model in apps.get_models():
        for row in model._base_manager.values_list():
            for value in row:
                text = bytes(value).decode(errors="replace") if isinstance(value, memoryview) else str(value)
                found |= {text, *re.findall(r"[\w:.+/=-]{6,}", text)}
    for text in tuple(found):
        try:
            found.add(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        except ValueError:
            continue
    return found


def test_no_table_holds_what_opens_something(secrets):
    held, codes, before = secrets
    everything = json.dumps(sorted(texts() | before))

    for name, secret in held.items():
        assert secret not in everything, name
    assert not [code for code in codes if code in everything]


def test_no_value_of_a_table_is_a_session_a_token_or_an_invitation(secrets, account):
    stranger = services.create_user(
        username="mallory", email="", password=PASSWORD, account=account, role=Membership.Role.VIEWER
    )

    for text in sorted(text for text in texts() if 20 <= len(text) <= 100 and text.isascii() and text.isprintable()):
        client = Client()
        client.cookies["session"] = text
        assert client.get("/dashboard/you").status_code == 302, text
        assert Api(text).get("api-keys").status_code == 401, text
        with pytest.raises(InvitationInvalid):
            join(token=text, user=stranger)
