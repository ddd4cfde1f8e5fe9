"""Holds: dashboard.pages.members

Members: invitations, roles, and the owner that an account always keeps.
"""

import threading

import pytest
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from accounts import members, services
from accounts.models import Invitation, Membership, User
from accounts.principals import Principal
from audit.models import Event

Role = Membership.Role
LIST = "/dashboard/settings/members"
PASSWORD = "correct-horse-battery-staple"
NEW = {"username": "bob", "email": "bob@example.com", "password": PASSWORD}


def user_of(account, username, role=Role.OWNER):
    return services.create_user(username=username, email="", password=PASSWORD, account=account, role=role)


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def alice_user(account):
    return user_of(account, "alice")


@pytest.fixture
def invite(account, principal):
    """A token that invites into the account."""

    def make(role="editor"):
        return members.invite(account=account, name="Bob", role=role, by=principal).token

    return make


@pytest.mark.django_db
def test_an_invitation_lets_a_new_user_in_once_as_what_it_says(account, alice_user):
    shown = client_of(alice_user).post(f"{LIST}/invite", {"name": "Bob", "role": "editor"})
    link = shown.content.decode().split("data-link>")[1].split("<")[0]
    address, _, token = link.partition("#")
    assert address == "http://testserver/dashboard/join"
    bob = Client()

    answer = bob.post("/dashboard/join", {"code": token, **NEW})

    assert answer["Location"] == "/dashboard/"
    assert account.memberships.get(user__username="bob").role == Role.EDITOR
    assert bob.get("/dashboard/settings/api-keys/new").status_code == 200
    assert bob.get(f"{LIST}/invite").status_code == 403
    again = Client().post("/dashboard/join", {"code": token, **NEW, "username": "eve"})
    assert again.status_code == 422
    assert b"has expired, or was used" in again.content
    assert not User.objects.filter(username="eve").exists()
    assert token not in str(list(Event.objects.values_list("changes", "object_name")))
    assert token not in client_of(alice_user).get(LIST).content.decode()


@pytest.mark.django_db
def test_a_user_of_another_account_joins_as_who_they_are(account, other_account, invite):
    charlie = user_of(other_account, "charlie")
    client, token = client_of(charlie), invite("viewer")

    assert client.post("/dashboard/join", {"code": token})["Location"] == "/dashboard/"

    assert charlie.memberships.count() == 2
    assert client.post("/dashboard/settings/api-keys/new", {"name": "x"}).status_code == 403, "a viewer, in the new one"
    told = client.post("/dashboard/join", {"code": invite()})
    assert told.status_code == 409
    assert b"You belong to this account already." in told.content
    assert Invitation.objects.count() == 1, "it stays for whom it was meant"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"code": "gwi_nonsense"}, 422, "does not exist"),
        ({"code": ""}, 422, "This must not be empty."),
        ({"password": "short"}, 422, "too short"),
        ({"password": "qwerty123456"}, 422, "too common"),
        ({"username": "alice"}, 409, "This user name is taken."),
        ({"username": "b b"}, 422, "valid username"),
        ({"email": "nonsense"}, 422, "valid email"),
    ],
)
def test_who_joins_badly_is_told_why_and_leaves_nothing_behind(account, alice_user, invite, change, status, says):
    answer = Client().post("/dashboard/join", {"code": invite(), **NEW, **change})

    assert answer.status_code == status
    assert says in answer.content.decode()
    assert PASSWORD not in answer.content.decode()
    assert User.objects.count() == 1
    assert Invitation.objects.count() == 1


@pytest.mark.django_db
def test_an_invitation_dies_after_a_week_or_when_it_is_taken_back(account, alice_user, invite):
    owner = client_of(alice_user)
    expired, revoked = invite(), invite()
    first, second = Invitation.objects.order_by("id")
    Invitation.objects.filter(id=first.id).update(expires_at=timezone.now())
    assert second.text_id in owner.get(LIST).content.decode()
    assert first.text_id not in owner.get(LIST).content.decode()

    owner.post(f"{LIST}/invitations/{second.text_id}/revoke")

    for token in (expired, revoked):
        assert Client().post("/dashboard/join", {"code": token, **NEW}).status_code == 422
    assert owner.post(f"{LIST}/invitations/{second.text_id}/revoke").status_code == 404


@pytest.mark.django_db
def test_an_owner_changes_a_role_and_removes_a_member_and_the_audit_tells(account, alice_user):
    bob = user_of(account, "bob", Role.EDITOR)
    owner = client_of(alice_user)

    owner.post(f"{LIST}/{bob.text_id}", {"role": "viewer"})
    assert bob.memberships.get().role == Role.VIEWER
    owner.post(f"{LIST}/{bob.text_id}/remove", {"phrase": "bob"})

    assert not bob.memberships.exists()
    told = Event.objects.of_account(account).by_principal(alice_user.text_id)
    assert [(one.action, one.object_name) for one in told] == [
        ("member.removed", "bob"),
        ("member.role_changed", "bob"),
    ]
    assert told[1].changes == {"role": ["editor", "viewer"]}
    assert told[1].source == "request"


@pytest.mark.django_db
def test_the_last_owner_is_neither_removed_nor_demoted(account, alice_user):
    owner = client_of(alice_user)
    user_of(account, "bob", Role.EDITOR)

    demoted = owner.post(f"{LIST}/{alice_user.text_id}", {"role": "viewer"})
    removed = owner.post(f"{LIST}/{alice_user.text_id}/remove", {"phrase": "alice"})

    for answer in (demoted, removed):
        assert answer.status_code == 409
        assert b"An account needs an owner;" in answer.content
    assert alice_user.memberships.get().role == Role.OWNER


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(account, principal):
    alice, bob = (user_of(account, name).memberships.get() for name in ("alice", "bob"))
    refused = []

    def remove_bob():
        try:
            members.remove_member(member=bob, by=principal)
        except members.LastOwner:
            refused.append(bob)
        finally:
            connections.close_all()

    other = threading.Thread(target=remove_bob)
    with transaction.atomic():
        members.remove_member(member=alice, by=principal)
        # Not committed yet: whoever looks now sees two owners, unless they wait.
        other.start()
        other.join(0.5)
    other.join()

    assert refused == [bob]
    assert account.memberships.get(role=Role.OWNER) == bob


@pytest.mark.django_db
@pytest.mark.parametrize("role", [Role.EDITOR, Role.VIEWER])
def test_nobody_but_an_owner_touches_the_members(account, alice_user, invite, role):
    invite()
    invitation = Invitation.objects.get()
    client = client_of(user_of(account, "bob", role))
    own = f"{LIST}/{User.objects.get(username='bob').text_id}"

    assert client.get(LIST).status_code == 200
    assert invitation.text_id not in client.get(LIST).content.decode()
    for path, body in [
        (f"{LIST}/invite", {"name": "Eve", "role": "owner"}),
        (own, {"role": "owner"}),
        (f"{own}/remove", {"phrase": "bob"}),
        (f"{LIST}/invitations/{invitation.text_id}/revoke", {}),
    ]:
        assert client.post(path, body).status_code == 403, path
    assert account.memberships.get(user__username="bob").role == role
    assert Invitation.objects.count() == 1


@pytest.mark.django_db
def test_an_owner_of_another_account_finds_no_member_and_no_invitation(other_account, alice_user, invite):
    invite()
    invitation = Invitation.objects.get()
    charlie = client_of(user_of(other_account, "charlie"))

    for path, body in [
        (f"{LIST}/{alice_user.text_id}", {"role": "viewer"}),
        (f"{LIST}/{alice_user.text_id}/remove", {"phrase": "alice"}),
        (f"{LIST}/invitations/{invitation.text_id}/revoke", {}),
        (f"{LIST}/invitations/nonsense/revoke", {}),
    ]:
        assert charlie.post(path, body).status_code == 404, path
    assert alice_user.memberships.get().role == Role.OWNER
    assert Invitation.objects.exists()


@pytest.mark.django_db
def test_the_operator_opens_an_account_and_its_writes_are_told_as_the_operators(account):
    operator = User.objects.create_superuser(username="root", password=PASSWORD)
    client = client_of(operator)

    client.post("/dashboard/accounts/new", {"name": "Research"})
    client.post(f"{LIST}/invite", {"name": "Rita", "role": "owner"})

    told = Event.objects.by_principal(operator.text_id).order_by("id")
    assert [(one.account.name, one.action) for one in told] == [
        ("Research", "account.created"),
        ("Research", "invitation.created"),
    ]
    assert told[0].principal_name == Principal.of(operator).name
    assert client_of(user_of(account, "alice")).post("/dashboard/accounts/new", {"name": "x"}).status_code == 404
