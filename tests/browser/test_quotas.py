"""Holds: dashboard.pages.quotas

The page of quotas is accessible, light and dark, and marks what is nearly used up.
"""

import pytest
from playwright.sync_api import expect

from access_keys.services import create_access_key
from accounts.quota_limits import Quota
from accounts.quotas import set_limits
from tests.browser.conftest import PHONE


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_quotas_marks_what_is_nearly_used_up(
    account, principal, member, open_page, assert_accessible, dark
):
    create_access_key(account=account, by=principal, name="shop")
    set_limits(account.id, {Quota.ACCESS_KEYS: 1})

    page = open_page("/dashboard/settings/quotas", user=member(account), dark=dark, size=PHONE)

    expect(page.get_by_text("Reached")).to_be_visible()
    assert_accessible(page)
