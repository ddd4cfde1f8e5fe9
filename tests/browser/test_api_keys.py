"""Holds: dashboard.pages.api_keys

Settings → API keys in a browser: a token, its expiry in the person's own zone, its end by a typed name.
"""

from accounts.models import Membership
from tests.browser.conftest import PHONE


def test_an_api_key_is_made_copied_and_deleted(account, member, open_page, assert_accessible):
    page = open_page("/dashboard/settings/api-keys/new", user=member(account))
    assert_accessible(page)
    page.get_by_label("Name").fill("ci")
    page.get_by_label("Expires").fill("2099-01-31T12:00")
    page.get_by_role("button", name="Create API key").click()

    token = page.locator("[data-token]").inner_text()
    page.locator(".token-once").get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert account.apikey_set.get(name="ci").expires_at.isoformat() == "2099-01-31T11:00:00+00:00", "Vienna's noon"
    assert_accessible(page)

    page.get_by_role("link", name="I have stored it").click()
    page.get_by_role("link", name="ci", exact=True).click()
    assert page.get_by_label("Expires").input_value() == "2099-01-31T12:00"
    page.get_by_role("link", name="Delete").click()
    delete = page.get_by_role("button", name="Delete API key")
    assert delete.is_disabled()
    page.get_by_label("Type ci to confirm").fill("ci")
    delete.click()
    page.get_by_text("The API key is deleted.").wait_for()
    assert not account.apikey_set.filter(name="ci").exists()


def test_a_viewer_sees_the_keys_and_nothing_to_press(account, principal, member, open_page, assert_accessible):
    page = open_page("/dashboard/settings/api-keys", user=member(account, role=Membership.Role.VIEWER), dark=True)
    assert not page.get_by_role("link", name="New API key").is_visible()
    assert_accessible(page)

    page.get_by_role("link", name="first").click()
    assert page.get_by_label("Name").is_disabled()
    assert not page.get_by_role("button", name="Save").is_visible()
    page.goto("/dashboard/settings/api-keys/new")
    page.get_by_text("Ask an owner of the account.").wait_for()
    assert_accessible(page)


def test_on_a_phone_the_sections_are_behind_a_button(account, member, open_page, assert_accessible):
    page = open_page("/dashboard/settings/api-keys", user=member(account), size=PHONE)
    assert not page.get_by_role("link", name="Credits").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0], "nothing stands out at the side"
    assert_accessible(page)

    page.get_by_role("button", name="Sections").click()
    page.get_by_role("link", name="Credits").click()
    assert page.url.endswith("/dashboard/credits")
