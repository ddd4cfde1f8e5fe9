"""Holds: dashboard.pages.members

Members in a browser: an invitation from one person to another, and the command search.
"""

from access_keys.services import create_access_key
from accounts.models import Membership
from configurations.services import create_configuration
from tests.browser.conftest import PASSWORD, PHONE


def test_an_owner_invites_and_a_new_user_joins_by_the_link(account, member, open_page, assert_accessible):
    page = open_page("/dashboard/settings/members", user=member(account))
    assert_accessible(page)
    page.get_by_role("link", name="Invite a member").click()
    page.get_by_label("For whom").fill("Bob")
    page.get_by_label("Role").select_option("viewer")
    assert_accessible(page)
    page.get_by_role("button", name="Make the invitation").click()
    link = page.locator("[data-link]").inner_text()
    assert_accessible(page)

    bob = open_page(link, dark=True, size=PHONE)
    assert bob.get_by_label("Invitation code").input_value() == link.partition("#")[2]
    assert "#" not in bob.url, "the token has gone from the address"
    bob.get_by_label("User name").fill("bob")
    bob.get_by_label("Password").fill("short")
    bob.get_by_role("button", name="Join").click()
    assert "too short" in bob.locator(".field-faulty .fault").inner_text()
    assert_accessible(bob)
    bob.get_by_label("Password").fill(PASSWORD)
    bob.get_by_role("button", name="Join").click()
    bob.get_by_text("You are now a member of Alice's.").wait_for()
    assert account.memberships.get(user__username="bob").role == Membership.Role.VIEWER

    page.goto("/dashboard/settings/members")
    page.get_by_role("link", name="bob").click()
    assert_accessible(page)
    page.get_by_label("Role").select_option("editor")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("bob is saved.").wait_for()


def test_a_few_letters_find_a_page_or_a_thing_by_keyboard_alone(
    account, principal, member, open_page, assert_accessible
):
    create_configuration(account=account, by=principal, name="checkout rules")
    page = open_page("/dashboard/settings/members", user=member(account))

    page.keyboard.press("Control+k")
    page.keyboard.type("checkout")
    page.get_by_role("option", name="checkout rules").wait_for()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.locator("#palette").wait_for(state="hidden")
    page.keyboard.press("/")
    page.locator("#palette").wait_for()
    page.keyboard.type("credit")
    page.get_by_role("option", name="Credits").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/credits")


def test_a_whole_key_finds_its_access_key_and_stays_out_of_addresses(account, principal, member, open_page):
    issued = create_access_key(account=account, by=principal, name="checkout app")
    page = open_page("/dashboard/settings/members", user=member(account))
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))

    page.keyboard.press("Control+k")
    page.keyboard.insert_text(issued.token)
    page.get_by_role("option", name="checkout app").wait_for()

    assert any(address.endswith("/dashboard/search") for address in addresses)
    assert not any(issued.token[10:-4] in address for address in addresses)


def test_a_member_of_two_accounts_switches(account, other_account, member, open_page, assert_accessible):
    alice = member(account)
    Membership.objects.create(account=other_account, user=alice, role="viewer")
    page = open_page("/dashboard/settings/members", user=alice)

    page.get_by_label("Account: Alice's").click()
    assert_accessible(page)
    page.get_by_role("button", name="Charlie's").click()

    page.get_by_label("Account: Charlie's").wait_for()
    page.goto("/dashboard/settings/members")
    assert not page.get_by_role("link", name="Invite a member").is_visible()
