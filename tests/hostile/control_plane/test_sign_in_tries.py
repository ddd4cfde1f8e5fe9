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


def test_tries_with_a_locked_out_name_count_for_their_network(alice):
    with patch.object(tries, "NETWORK_TRIES", 12):
        answers = [sign_in("alice", "192.0.2.7").status_code for _ in range(12)]
        elsewhere = sign_in("bob", "192.0.2.8")
        refused = sign_in("bob", "192.0.2.7")

    # The fifth wrong password locks the name out. Those that follow are counted too.
    assert answers == [200] * 4 + [429] * 8
    assert (elsewhere.status_code, refused.status_code) == (200, 429)


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("/dashboard/you/confirm", {"password": "wrong"}),
        ("/dashboard/you/password", {"oldpassword": "wrong", "password1": "x" * 20, "password2": "x" * 20}),
    ],
)
def test_wrong_passwords_inside_count_like_those_at_sign_in(alice, page, form):
    inside = Client(REMOTE_ADDR="192.0.2.7")
    inside.force_login(alice)

    answers = [inside.post(page, form).status_code for _ in range(6)]

    assert answers[3:] == [200, 429, 429]
    assert sign_in("alice", "192.0.2.7", PASSWORD).status_code == 429
    with patch.object(tries, "NETWORK_TRIES", 6):
        assert sign_in("bob", "192.0.2.7").status_code == 429


def test_a_network_has_few_tries_while_many_networks_try_at_once(alice):
    with patch.object(tries, "ALL_TRIES", 12):
        for number in range(tries.FEW_NETWORK_TRIES):
            sign_in(f"nobody{number}", "192.0.2.7")
        assert sign_in("nobody", "192.0.2.7").status_code == 200
        for number in range(6):
            sign_in("nobody", f"198.51.100.{number}")

        assert sign_in("nobody", "192.0.2.7").status_code == 429
        assert sign_in("alice", "203.0.113.1", PASSWORD).status_code == 302
