"""Joining an account with an invitation, for signed-in users and for people without a user.

The token of an invitation is behind the # of its link, where no server and no log sees it. The page's script moves it
into the form.
"""

from typing import Final

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import members
from accounts.models import User
from accounts.serializers import JoinForm, NewUserForm
from dashboard.account import choose
from dashboard.kit.forms import Field, Form

_CODE: Final = Field("code", "Invitation code", required=True, hint="It is in the link that you were given.")
_NEW: Final = (
    _CODE,
    Field("username", "User name", required=True, hint="You sign in with it."),
    Field("email", "E-mail address"),
    Field("password", "Password", "secret", required=True, hint="At least 12 characters."),
)


@never_cache
@sensitive_post_parameters("password", "code")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """`/dashboard/join`, open to everybody. The token of the invitation is checked on POST."""
    user = request.user if isinstance(request.user, User) else None
    serializer, fields = (JoinForm, (_CODE,)) if user else (NewUserForm, _NEW)
    form = Form(serializer, fields, submitted=request.POST if request.method == "POST" else None)
    if form.is_submitted:
        with form.faults_shown():
            values = form.values()
            token = values.pop("code").strip()
            if user is not None:
                member = members.join(token=token, user=user)
            else:
                member = members.join_as_new_user(token=token, **{"email": "", **values})
                login(request, member.user, backend="django.contrib.auth.backends.ModelBackend")
            choose(request, member.account.text_id)
            messages.success(request, f"You are now a member of {member.account.name}.")
            return HttpResponseRedirect(reverse("dashboard:overview"))
    return render(request, "dashboard/join.html", {"form": form}, status=form.status)
