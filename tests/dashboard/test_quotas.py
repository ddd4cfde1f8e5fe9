"""Holds: dashboard.pages.quotas

Settings → Quotas, the notice on the overview, and what a form says when a quota is reached.
"""

from typing import Any

import pytest

from access_keys.models import AccessKey
from access_keys.services import create_access_key
from accounts import members
from accounts.models import Account, Membership, User
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import set_limits
from tests.dashboard.test_gateway_configuration import signed_in

pytestmark = pytest.mark.django_db


def page_of(client: Any, path: str) -> str:
    answer = client.get(f"/dashboard/{path}")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_each_quota_is_shown_with_what_is_used_of_it(account: Account, principal: Principal) -> None:
    set_limits(account.id, {Quota.ACCESS_KEYS: 8})
    create_access_key(account=account, by=principal)

    page = page_of(signed_in(account, role=Membership.Role.VIEWER), "settings/quotas")

    assert all(f'<code class="subtle">{quota}</code>' in page for quota in Quota if quota.column)
    assert 'value="12">12 %</meter>' in page
    assert "Revisions of one configuration" in page
    assert "message-warning" not in page


@pytest.mark.parametrize(("limit", "says"), [(5, "80 % used"), (4, "Reached"), (3, "Reached")])
@pytest.mark.parametrize("path", ["settings/quotas", ""])
def test_a_quota_that_is_nearly_used_up_is_announced(
    account: Account, principal: Principal, path: str, limit: int, says: str
) -> None:
    for _ in range(4):
        create_access_key(account=account, by=principal)
    set_limits(account.id, {Quota.ACCESS_KEYS: limit})

    page = page_of(signed_in(account), path)

    assert f"4 of {limit} access keys are used." in page
    assert ("No more can be made." in page) == (limit <= 4)
    assert says in page or not path


def test_a_form_at_a_quota_says_so_and_keeps_what_was_typed(account: Account) -> None:
    set_limits(account.id, {Quota.ACCESS_KEYS: 0})

    answer = signed_in(account).post("/dashboard/access-keys/new", {"name": "typed by hand", "once": "x" * 32})

    page = answer.content.decode()
    assert answer.status_code == 409, page
    assert "The quota accessKeys is 0 access keys." in page
    assert 'value="typed by hand"' in page
    assert not AccessKey.objects.exists()


def test_an_invitation_to_a_full_account_stays_valid_and_makes_no_user(
    account: Account, principal: Principal, client: Any
) -> None:
    token = members.invite(account=account, name="Dora", role="viewer", by=principal).token
    set_limits(account.id, {Quota.MEMBERS: 0})
    typed = {"code": token, "username": "dora", "email": "", "password": "correct horse battery"}

    answer = client.post("/dashboard/join", typed)

    assert answer.status_code == 409
    assert "The quota members is 0 members." in answer.content.decode()
    assert not User.objects.filter(username="dora").exists()
    set_limits(account.id, {Quota.MEMBERS: 1})
    assert client.post("/dashboard/join", typed).status_code == 302
