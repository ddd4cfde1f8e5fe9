"""Holds: dashboard.sign_in

Signing in: the password, the code, the throttle, and what the browser is told to refuse.
"""

import os
import re
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from accounts import services
from accounts.members import invite
from accounts.models import Invitation, Membership, User
from accounts.principals import Principal
from accounts.tasks import forget_expired_sessions
from audit.models import Event, PendingEvent
from tests.live import ROOT
from tests.servers import SECRETS

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery-staple"
LOGIN = "/dashboard/login"


@pytest.fixture
def alice(account):
    return services.create_user(
        username="alice", email="", password=PASSWORD, account=account, role=Membership.Role.OWNER
    )


def sign_in(client, username="alice", password=PASSWORD, address="192.0.2.1", **query):
    return client.post(
        LOGIN + (f"?next={query['next']}" if query else ""),
        {"login": username, "password": password},
        REMOTE_ADDR=address,
    )


def code_of(secret, steps=0):
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def set_up_totp(client):
    assert client.get("/dashboard/you/authenticator")["Location"].startswith("/dashboard/you/confirm")
    client.post("/dashboard/you/confirm", {"password": PASSWORD})
    page = client.get("/dashboard/you/authenticator").content.decode()
    secret = page.split("data-totp-secret>")[1].split("<")[0]
    return secret, client.post("/dashboard/you/authenticator", {"code": code_of(secret)}, follow=True)


def test_a_member_signs_in_into_a_new_session(alice):
    client = Client()
    client.get(LOGIN)
    client.session["before"] = True
    client.session.save()
    before = client.session.session_key

    answer = sign_in(client)

    assert answer["Location"] == "/dashboard/"
    assert client.get("/dashboard/").status_code == 200
    assert client.session.session_key != before
    cookie = answer.cookies["session"]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 12 * 3600)


def test_a_wrong_password_and_an_unknown_user_get_the_same_words(alice):
    wrong, unknown = (sign_in(Client(), username, "wrong") for username in ("alice", "nobody"))

    def words(answer):
        return re.sub(r'value="\w+"', "", answer.content.decode())

    assert wrong.status_code == unknown.status_code == 200
    assert words(wrong) == words(unknown)


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_the_way_back_after_signing_in_leads_nowhere_else(alice, target):
    assert sign_in(Client(), next=target)["Location"] == "/dashboard/"


def test_the_way_back_leads_to_the_page_that_was_asked_for(alice):
    assert sign_in(Client(), next="/dashboard/credits")["Location"] == "/dashboard/credits"


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_after_five_wrong_passwords_even_the_right_one_waits_whoever_it_is(alice, username):
    for _ in range(4):
        assert sign_in(Client(), username, "wrong").status_code == 200
    assert sign_in(Client(), username, "wrong").status_code == 429

    answer = sign_in(Client(), username)

    assert answer.status_code == 429
    assert 890 <= int(answer["Retry-After"]) <= 900
    assert b"15 minutes" in answer.content
    if username == "alice":
        assert sign_in(Client(), address="192.0.2.2").status_code == 302, "from elsewhere"


def test_a_forged_forwarding_header_is_no_new_address(alice):
    for number in range(6):
        answer = Client().post(
            LOGIN, {"login": "alice", "password": "wrong"}, headers={"x-forwarded-for": f"198.51.100.{number}"}
        )

    assert answer.status_code == 429


def test_trying_on_does_not_make_the_wait_longer(alice):
    for _ in range(5):
        sign_in(Client(), password="wrong")
    first = int(sign_in(Client())["Retry-After"])

    time.sleep(1.1)

    assert int(sign_in(Client())["Retry-After"]) < first


def test_with_an_authenticator_app_a_password_is_not_enough(alice):
    client = Client()
    sign_in(client)
    secret, shown = set_up_totp(client)
    codes = re.findall(r"<li><code>(\w+)</code>", shown.content.decode())
    assert len(codes) == 10
    assert not re.findall(r"<li><code>", client.get("/dashboard/you/recovery-codes").content.decode()), "shown once"
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored

    second = Client()
    assert sign_in(second)["Location"] == "/dashboard/login/code"
    assert second.get("/dashboard/")["Location"].startswith(LOGIN)
    assert second.post("/dashboard/login/code", {"code": "000000"}).status_code == 200
    code = code_of(secret, 1)
    assert second.post("/dashboard/login/code", {"code": code})["Location"] == "/dashboard/"
    assert second.get("/dashboard/").status_code == 200

    # What allauth remembers is over after one period, in which the code is still good.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_cache WHERE cache_key LIKE '%allauth%'")
    replayed = Client()
    sign_in(replayed)
    assert b"was used already" in replayed.post("/dashboard/login/code", {"code": code}).content

    for number, expected in enumerate((302, 200)):
        third = Client()
        sign_in(third)
        answer = third.post("/dashboard/login/code", {"code": codes[0]})
        assert answer.status_code == expected, f"use {number + 1} of a recovery code"


def test_wrong_codes_count_with_wrong_passwords_and_cannot_be_guessed_on(alice):
    client = Client()
    sign_in(client)
    secret, _ = set_up_totp(client)
    guesser = Client()
    sign_in(guesser)

    answers = [
        guesser.post("/dashboard/login/code", {"code": f"{n:06}"}, REMOTE_ADDR="192.0.2.1").status_code
        for n in range(6)
    ]
    right = guesser.post("/dashboard/login/code", {"code": code_of(secret, 1)}, REMOTE_ADDR="192.0.2.1")

    assert answers == [200, 200, 200, 200, 429, 429]
    assert right.status_code == 429
    assert guesser.get("/dashboard/").status_code == 302
    assert sign_in(Client()).status_code == 429


def test_where_an_authenticator_app_is_required_nothing_comes_before_it(alice, settings):
    settings.DASHBOARD_REQUIRE_TOTP = True
    client = Client()
    sign_in(client)

    for path in ("", "access-keys", "accounts", "settings/api-keys/new"):
        assert client.get(f"/dashboard/{path}")["Location"] == "/dashboard/you/authenticator"
    assert client.post("/dashboard/settings/api-keys/new", {"name": "x"}).status_code == 302
    assert alice.memberships.get().account.apikey_set.count() == 1

    set_up_totp(client)
    assert client.get("/dashboard/").status_code == 200
    client.post("/dashboard/you/authenticator/remove")
    assert Authenticator.objects.filter(type="totp").exists(), "it cannot be taken off again"


def test_a_changed_password_ends_every_other_session(alice):
    here, there = Client(), Client()
    sign_in(here)
    sign_in(there)
    new = "another-long-passphrase"

    here.post("/dashboard/you/password", {"oldpassword": PASSWORD, "password1": new, "password2": new})

    assert here.get("/dashboard/").status_code == 200
    assert there.get("/dashboard/").status_code == 302
    assert sign_in(Client(), password=new).status_code == 302


def events_of_sign_in():
    return list(Event.objects.filter(action__startswith="member.").exclude(action="member.added").order_by("id"))


def test_a_change_of_ones_own_sign_in_stands_in_the_audit_without_a_secret(alice, other_account):
    services.add_member(account=other_account, user=alice, role=Membership.Role.VIEWER)
    client = Client()
    sign_in(client)
    new = "another-long-passphrase"

    secret, _ = set_up_totp(client)
    client.post("/dashboard/you/recovery-codes/new")
    client.post("/dashboard/you/authenticator/remove")
    client.post("/dashboard/you/password", {"oldpassword": PASSWORD, "password1": new, "password2": new})

    told = events_of_sign_in()
    done = ["authenticator_added", "recovery_codes_renewed", "authenticator_removed", "password_changed"]
    assert [event.action for event in told] == [f"member.{one}" for one in done for _ in range(2)]
    assert {event.account_id for event in told} == {alice.memberships.first().account_id, other_account.id}
    assert {(event.principal_id, event.object_id, event.address) for event in told} == {
        (alice.text_id, alice.text_id, "127.0.0.1")
    }
    assert not re.search(f"{secret}|{new}|{PASSWORD}", str([vars(event) for event in told]))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("you/password", {"oldpassword": PASSWORD, "password1": "x" * 9 + "yz-12", "password2": "x" * 9 + "yz-12"}),
        ("you/authenticator/remove", {}),
        ("you/recovery-codes/new", {}),
    ],
)
def test_what_the_audit_cannot_tell_of_a_sign_in_is_not_done(alice, path, form, monkeypatch):
    client = Client(raise_request_exception=False)
    sign_in(client)
    set_up_totp(client)
    before = (User.objects.get().password, list(Authenticator.objects.order_by("id").values_list("data", flat=True)))
    monkeypatch.setattr(PendingEvent.objects, "create", _fail)

    assert client.post(f"/dashboard/{path}", form).status_code == 500

    after = (User.objects.get().password, list(Authenticator.objects.order_by("id").values_list("data", flat=True)))
    assert after == before


def _fail(**_values):
    raise RuntimeError("the audit is broken on purpose")


def test_the_sign_in_of_who_is_in_no_account_stands_in_the_operators_audit(db):
    operator = User.objects.create_superuser("root", "", PASSWORD)
    client = Client()
    sign_in(client, "root")
    new = "another-long-passphrase"

    client.post("/dashboard/you/password", {"oldpassword": PASSWORD, "password1": new, "password2": new})

    assert [(one.account_id, one.action, one.object_id) for one in events_of_sign_in()] == [
        (None, "member.password_changed", operator.text_id)
    ]


def test_signing_out_needs_a_post_and_ends_the_session(alice):
    client = Client()
    sign_in(client)
    assert client.get("/dashboard/logout").status_code == 200
    assert client.get("/dashboard/").status_code == 200

    assert client.post("/dashboard/logout")["Location"] == LOGIN
    assert client.get("/dashboard/").status_code == 302


@pytest.mark.parametrize(
    "name", ["account_signup", "account_reset_password", "account_email", "account_set_password", "mfa_list_webauthn"]
)
def test_nobody_registers_or_resets_by_themselves(name):
    with pytest.raises(NoReverseMatch):
        reverse(name)


def test_a_form_without_its_csrf_token_is_refused(alice):
    answer = Client(enforce_csrf_checks=True).post(LOGIN, {"login": "alice", "password": PASSWORD})

    assert answer.status_code == 403
    assert b"This form is too old" in answer.content


def test_a_form_without_tls_says_that_browsers_keep_its_cookie_over_https_alone(settings):
    settings.CSRF_COOKIE_SECURE = True
    browser = Client(enforce_csrf_checks=True)

    answer = browser.post("/dashboard/login", {"login": "x", "password": "y"})

    assert answer.status_code == 403
    assert b"needs HTTPS" in answer.content
    assert b"TRUSTED_PROXIES" in answer.content


def test_a_form_behind_a_proxy_that_is_not_trusted_names_both_addresses():
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/dashboard/login").cookies["csrf"].value

    form = {"login": "x", "password": "y", "csrfmiddlewaretoken": token}
    answer = browser.post("/dashboard/login", form, HTTP_ORIGIN="https://gateway.example")

    assert answer.status_code == 403
    assert b"https://gateway.example" in answer.content
    assert b"http://testserver" in answer.content
    assert b"TRUSTED_PROXIES" in answer.content


def test_the_operator_gives_a_new_password_to_who_lost_theirs(alice, capsys):
    client = Client()
    sign_in(client)
    set_up_totp(client)

    call_command("reset_sign_in", "alice")

    password = capsys.readouterr().out.removeprefix("DASHBOARD_PASSWORD=").strip()
    assert client.get("/dashboard/").status_code == 302
    assert [(one.action, one.principal_kind) for one in events_of_sign_in()[-2:]] == [
        ("member.password_reset", "system"),
        ("member.authenticator_removed", "system"),
    ]
    assert sign_in(Client(), password=password)["Location"] == "/dashboard/"
    with pytest.raises(CommandError, match="no such user"):
        call_command("reset_sign_in", "nobody")


@pytest.mark.parametrize("path", [LOGIN, "/dashboard/", "/access-keys", "/docs", "/healthz"])
def test_every_answer_tells_browsers_to_run_nothing_that_is_not_ours(alice, path):
    client = Client()
    client.force_login(alice)

    policy = client.get(path)["Content-Security-Policy"]

    told = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    assert told["default-src"] == ["'self'"]
    assert told.get("script-src", ["'self'"]) == ["'self'"]
    assert told["object-src"] == told["frame-ancestors"] == ["'none'"]
    assert told["base-uri"] == told["form-action"] == ["'self'"]
    assert ("'unsafe-inline'" in policy) == (path == "/docs")


def test_in_production_cookies_are_for_this_host_over_tls_alone():
    told = {
        "GATEWAY_MODE": "production",
        "ALLOWED_HOSTS": "gateway.example.com",
        "SECURE_COOKIES": "",
        **{name: os.environ[name] for name in SECRETS},
    }
    names = "SESSION_COOKIE_NAME", "CSRF_COOKIE_NAME", "SESSION_COOKIE_SECURE"
    script = f"from django.conf import settings; print(*(getattr(settings, name) for name in {names}))"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **told, "DJANGO_SETTINGS_MODULE": "gateway_admin.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["__Host-session", "__Host-csrf", "True"]
    assert Client().get(LOGIN).cookies["csrf"]["httponly"]


def test_expired_sessions_and_invitations_are_forgotten(alice):
    for _ in range(2):
        sign_in(Client())
        invite(account=alice.memberships.get().account, name="Bob", role="viewer", by=Principal.of(alice))
    yesterday = timezone.now() - timedelta(days=1)
    Session.objects.filter(pk=Session.objects.first().pk).update(expire_date=yesterday)
    Invitation.objects.filter(pk=Invitation.objects.first().pk).update(expires_at=yesterday)

    assert forget_expired_sessions() == 2
    assert (Session.objects.count(), Invitation.objects.count()) == (1, 1)
