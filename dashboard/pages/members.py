"""Pages for the members of the account, their roles and the invitations."""

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from accounts import members
from accounts.models import Invitation, Membership, User
from accounts.serializers import InvitationForm, MemberForm
from dashboard.account import Role
from dashboard.kit.confirmation import ConfirmedPage, Question
from dashboard.kit.forms import Field, Form
from dashboard.kit.page import Page
from dashboard.navigation import SETTINGS
from gateway_core import ids
from rest import uris
from rest.errors import NotFound

# At most so many members are shown, which is more than a team has.
_SHOWN: Final = 500
_PARENTS: Final = (("Members", "members"),)
_ROLES: Final = (
    (Role.VIEWER.value, "Viewer: may look at everything"),
    (Role.EDITOR.value, "Editor: may also change everything but the members"),
    (Role.OWNER.value, "Owner: may also change the members"),
)
_INVITED: Final = (
    Field("name", "For whom", required=True, hint="A name by which you recognise the person.", placeholder="Bob"),
    Field("role", "Role", "choice", choices=_ROLES),
)
_ROLE: Final = (Field("role", "Role", "choice", choices=_ROLES),)


class MembersPage(Page):
    """`/dashboard/settings/members`: the list of members."""

    path = "settings/members"
    name = "members"
    section = SETTINGS
    title = "Members"
    template = "dashboard/members.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show all members; owners also see the open invitations."""
        found = self.owned(Membership).select_related("user").order_by("user__username")[:_SHOWN]
        invitations = self.owned(Invitation).filter(expires_at__gt=timezone.now()).order_by("-id")[:_SHOWN]
        return self.render(members=found, invitations=invitations if self.visit.is_owner else ())


class InvitePage(Page):
    """`/dashboard/settings/members/invite`: invites a new member."""

    path = "settings/members/invite"
    name = "invite-member"
    section = SETTINGS
    title = "Invite a member"
    template = "dashboard/member_invite.html"
    parents = _PARENTS
    least_to_read = least_to_write = Role.OWNER

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        return self.render(form=Form(InvitationForm, _INVITED))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Create the invitation. Its link is in this answer only."""
        form = Form(InvitationForm, _INVITED, submitted=request.POST)
        with form.faults_shown():
            issued = members.invite(account=self.visit.account, by=self.visit.principal, **form.values())
            # No browser sends the part behind the #, so the token is not in any log or Referer.
            link = f"{uris.base_of(request)}/dashboard/join#{issued.token}"
            return self.render("dashboard/member_invited.html", title="Invitation made", issued=issued, link=link)
        return self.render(form=form, status=form.status)


class RevokeInvitationPage(Page):
    """`POST /dashboard/settings/members/invitations/<id>/revoke`: withdraws an invitation."""

    path = "settings/members/invitations/<str:text_id>/revoke"
    name = "revoke-invitation"
    title = "Take back an invitation"
    least_to_write = Role.OWNER
    http_method_names = ["post"]

    def post(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Revoke the invitation, and show the members."""
        try:
            invitation = self.owned(Invitation).filter(id=ids.from_text(ids.Prefix.INVITATION, text_id)).first()
        except ids.InvalidId:
            raise NotFound from None
        if invitation is None:
            raise NotFound
        members.revoke_invitation(invitation=invitation, by=self.visit.principal)
        return self.redirect("members", said="The invitation is taken back.")


class _OfOneMember(Page):
    section = SETTINGS
    parents = _PARENTS
    least_to_read = least_to_write = Role.OWNER

    def member(self, text_id: str) -> Membership:
        """The account's member with this user's ID.

        Raises:
            NotFound: this is not an ID, or the account has no such member.
        """
        try:
            user_id = ids.from_text(ids.Prefix.USER, text_id)
        except ids.InvalidId:
            raise NotFound from None
        found: Membership | None = self.owned(Membership).select_related("user").filter(user_id=user_id).first()
        if found is None:
            raise NotFound
        return found


class MemberPage(_OfOneMember):
    """`/dashboard/settings/members/<id>`: one member, with its form."""

    path = "settings/members/<str:text_id>"
    name = "member"
    title = "Member"
    template = "dashboard/member.html"

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the member, with the form for the role."""
        member = self.member(text_id)
        return self._shown(member, self._form(member))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Change the member's role."""
        member = self.member(text_id)
        form = self._form(member, submitted=request.POST)
        with form.faults_shown():
            changes = form.values()
            if changes:
                members.change_role(member=member, by=self.visit.principal, **changes)
            return self.redirect("members", said=f"{member.user.username} is saved.")
        return self._shown(member, form)

    def _form(self, member: Membership, submitted: Any = None) -> Form:
        return Form(MemberForm, _ROLE, submitted=submitted, present={"role": member.role})

    def _shown(self, member: Membership, form: Form) -> HttpResponse:
        return self.render(member=member, form=form, status=form.status, title=member.user.username)


class RemoveMemberPage(_OfOneMember, ConfirmedPage):
    """`/dashboard/settings/members/<id>/remove`: asks, then removes the member."""

    path = "settings/members/<str:text_id>/remove"
    name = "remove-member"
    title = "Remove member"

    def question(self, text_id: str) -> Question:
        """Ask whether this member may lose access to the account."""
        member = self.member(text_id)
        return Question(
            phrase=member.user.username,
            consequences=(
                "Their next click in the dashboard is refused.",
                "API keys that they made go on working. Delete those that only they should have known.",
            ),
            button="Remove member",
            back=reverse("dashboard:member", args=[text_id]),
        )

    def carry_out(self, text_id: str) -> HttpResponse:
        """Remove the member, and show the others."""
        member = self.member(text_id)
        members.remove_member(member=member, by=self.visit.principal)
        own = isinstance(self.request.user, User) and member.user_id == self.request.user.pk
        return self.redirect("overview" if own else "members", said=f"{member.user.username} is removed.")


PAGES: Final = (MembersPage, InvitePage, RevokeInvitationPage, MemberPage, RemoveMemberPage)
