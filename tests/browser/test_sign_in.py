"""Holds: dashboard.sign_in

Signing in, in a browser: a password, too many wrong ones, an authenticator app.
"""

import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

from tests.browser.conftest import PASSWORD, PHONE


def sign_in(page, username, password):
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("dark", [False, True])
def test_a_member_signs_in_and_out(account, member, open_page, assert_accessible, dark):
    member(account)
    page = open_page("/dashboard/credits", dark=dark, size=PHONE if dark else (1440, 900))
    assert_accessible(page)

    sign_in(page, "alice", "wrong")
    assert_accessible(page)
    sign_in(page, "alice", PASSWORD)
    page.wait_for_url("**/dashboard/credits")

    page.get_by_label("You: alice").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/dashboard/login")
    page.goto("/dashboard/")
    assert "/dashboard/login" in page.url


def test_too_many_wrong_passwords_are_told_how_long_to_wait(account, member, open_page, assert_accessible):
    member(account)
    page = open_page("/dashboard/login")

    for _ in range(5):
        sign_in(page, "alice", "wrong")

    page.get_by_text("15 minutes").wait_for()
    assert_accessible(page)
    page.get_by_role("link", name="Back to the sign-in").click()
    sign_in(page, "alice", PASSWORD)
    page.get_by_role("heading", name="Too many tries").wait_for()


def test_an_authenticator_app_is_set_up_where_it_is_required(account, member, open_page, assert_accessible, settings):
    settings.DASHBOARD_REQUIRE_TOTP = True
    member(account)
    page = open_page("/dashboard/")
    sign_in(page, "alice", PASSWORD)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    assert_accessible(page)
    secret = page.locator("[data-totp-secret]").inner_text()

    def code(steps=0):
        return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))

    page.get_by_label("Authenticator code").fill(code())
    page.get_by_role("button", name="Switch it on").click()
    assert page.locator(".codes li").count() == 10
    assert_accessible(page)
    page.get_by_role("link", name="I have stored them").click()
    page.get_by_role("heading", name="Overview").wait_for()

    again = open_page("/dashboard/")
    sign_in(again, "alice", PASSWORD)
    assert_accessible(again)
    again.get_by_label("Code").fill(code(1))
    again.get_by_role("button", name="Sign in").click()
    again.get_by_role("heading", name="Overview").wait_for()
    again.goto("/dashboard/you")
    assert_accessible(again)


def test_the_reader_of_the_api_works_under_its_own_policy(db, open_page):
    page = open_page("/docs")

    page.get_by_text("/access-keys/{id}/explain").first.wait_for()
