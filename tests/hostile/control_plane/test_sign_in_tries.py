"""Holds: dashboard.tries

Made-up names, many addresses and many codes: each ends at a bound, and costs nobody else a try.
"""

import time
from unittest.mock import patch

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.contrib.auth.hashers import MD5PasswordHasher
from django.test import Client

from accounts import services
from accounts.models import Membership
from audit.models import Event
from dashboard import tries

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def alice(account):
    return services.create_user(
        username="alice", email="", password=PASSWORD, account=account, role=Membership.Role.OWNER
    )


def sign_in(username, address, password="wrong"):
    return Client().post("/dashboard/login", {"login": username, "password": password}, REMOTE_ADDR=address)


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [("192.0.2.{}", "198.51.100.1"), ("2001:db8::{}", "2001:db8:0:1::1"), ("::ffff:192.0.2.7", "::ffff:192.0.2.8")],
)
def test_made_up_names_of_a_network_end_before_their_passwords_are_hashed(alice, address, elsewhere):
    def of(number):
        return "192.0.2.7" if address.startswith("192") else address.format(number)

    with patch.object(tries, "NETWORK_TRIES", 6):
        for number in range(6):
            assert sign_in(f"nobody{number}", of(number)).status_code == 200
        with patch.object(MD5PasswordHasher, "encode", side_effect=AssertionError("hashed")):
            refused = sign_in("nobody-else", of(7))

        assert (refused.status_code, refused["Retry-After"]) == (429, "900")
        assert sign_in("alice", elsewhere, PASSWORD).status_code == 302


def test_wrong_codes_of_a_user_end_whatever_the_address_and_are_shown(alice):
    secret = generate_totp_secret()
    TOTP.activate(alice, secret)
    recovery = RecoveryCodes.activate(alice).get_unused_codes()[0]
    answers = []
    for number in range(tries.CODES):
        client = Client(REMOTE_ADDR=f"192.0.2.{number}")
        client.post("/dashboard/login", {"login": "alice", "password": PASSWORD})
        answers.append(client.post("/dashboard/login/code", {"code": f"{number:06}"}).status_code)

    for code in (format_hotp_value(hotp_value(secret, int(time.time()) // 30)), recovery):
        answer = client.post("/dashboard/login/code", {"code": code})
        assert answer.status_code == 200
        assert b"Wait an hour" in answer.content
    assert answers == [200] * tries.CODES
    assert Event.objects.filter(action="member.code_refused", object_id=alice.text_id).count() == tries.CODES
    inside = Client()
    inside.force_login(alice)
    assert b"10 since" in inside.get("/dashboard/you").content


def test_right_codes_use_nothing_up(alice):
    for _ in range(tries.CODES + 1):
        assert tries.take_code(alice)
        tries.note_right_code(alice)
