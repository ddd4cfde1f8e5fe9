"""Signing in: allauth's flows for password, authenticator app and recovery codes, throttled by axes.

There is no registration and no reset by mail: members come by invitation, and the operator gives a new password with
`manage.py reset_sign_in`. One throttle counts wrong passwords and wrong codes together, by user name and client
address. It counts in PostgreSQL, so that all processes share it (docs/decisions/0091-sign-in.md).
"""

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from allauth.account import views as account
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import ChangePasswordForm
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base import views as mfa
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.signals import user_login_failed
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts import services
from accounts.models import User
from accounts.principals import Principal
from audit.actions import Action
from dashboard import tries
from dashboard.join import join
from dashboard.sessions import fernet

# Three periods: the present one, and one before and after (MFA_TOTP_TOLERANCE).
_CODE_IS_GOOD_SECONDS: Final = 90


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """allauth's hooks for users: no registration, our client addresses, our service for passwords."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Always False: members come by invitation."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The client's address, as rest.middleware determined it."""
        return address_of(request)

    def set_password(self, user: User, password: str) -> None:
        """Change the password by the service, so that the change and its audit event commit together."""
        services.change_password(user=user, password=password)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """The page of one's own sign-in."""
        return reverse("mfa_index")


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # as above
    """allauth's hooks for authenticators.

    Secrets are encrypted with a key derived from SECRET_KEY, so that a copy of the table is not enough to sign in.
    """

    def encrypt(self, text: str) -> str:
        """Encrypt an authenticator's secret."""
        return fernet("authenticators").encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Decrypt an authenticator's secret.

        After a change of SECRET_KEY no stored secret can be decrypted. `manage.py reset_sign_in` removes an
        authenticator.
        """
        return fernet("authenticators").decrypt(encrypted_text.encode()).decode()

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """False where DASHBOARD_REQUIRE_TOTP requires an authenticator app."""
        return not settings.DASHBOARD_REQUIRE_TOTP


def _check_lock_out(request: HttpRequest, credentials: dict[str, str]) -> None:
    """Refuse a form during a lock-out. The user sees the page of `locked_out` instead of the form.

    Raises:
        ValidationError: the user name is locked out for the address.
    """
    if not AxesProxyHandler.is_allowed(request, credentials):
        request.axes_locked_out, request.axes_credentials = True, credentials  # type: ignore[attr-defined]
        user_login_failed.send(sender=__name__, credentials=credentials, request=request)
        raise ValidationError("Too many tries.")


class _Throttled:
    """Counts wrong codes together with wrong passwords. Refuses all codes during a lock-out, and a used code always.

    allauth remembers a used code for one period. With its tolerance a code is valid for three periods.
    """

    def clean_code(self: Any) -> str:
        """Check the code as allauth does, and apply the throttle."""
        request, credentials = context.request, {"username": self.user.get_username()}
        _check_lock_out(request, credentials)
        if not tries.take_code(self.user):
            raise ValidationError("There were too many codes for this user. Wait an hour.")
        used = f"used_code:{self.user.pk}:{''.join(self.cleaned_data['code'].split())}"
        if cache.get(used):
            tries.note_wrong_code(self.user)
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            raise ValidationError("This code was used already. Wait for the next one.")
        code: str = super().clean_code()  # type: ignore[misc]
        cache.set(used, 1, timeout=_CODE_IS_GOOD_SECONDS)
        tries.note_right_code(self.user)
        return code

    def _emit_authentication_failed(self: Any, authenticator: Authenticator) -> None:
        super()._emit_authentication_failed(authenticator)  # type: ignore[misc]
        tries.note_wrong_code(self.user)
        credentials = {"username": self.user.get_username()}
        user_login_failed.send(sender=__name__, credentials=credentials, request=context.request)


class ThrottledAuthenticateForm(_Throttled, AuthenticateForm):  # type: ignore[misc]
    """The form for the code at sign-in."""


class ThrottledReauthenticateForm(_Throttled, ReauthenticateForm):  # type: ignore[misc]
    """The form for the code that is asked again before a change of one's own sign-in."""


class ThrottledChangePasswordForm(ChangePasswordForm):  # type: ignore[misc]
    """The form for a new password. A wrong present password counts like a wrong one at sign-in."""

    def clean_oldpassword(self) -> str:
        """Check the present password as allauth does, and apply the throttle."""
        request, credentials = context.request, {"username": self.user.get_username()}
        _check_lock_out(request, credentials)
        try:
            password: str = super().clean_oldpassword()
        except ValidationError:
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            raise
        return password


class _Recorded:
    """Writes the audit event in the transaction of the form's change."""

    action: Action

    @transaction.atomic
    def form_valid(self: Any, form: Any) -> HttpResponse:
        """Do what allauth does, and record the event."""
        answer: HttpResponse = super().form_valid(form)  # type: ignore[misc]
        user = self.request.user
        services.record_sign_in(user=user, action=self.action, by=Principal.of(user))
        return answer


class ActivateTotp(_Recorded, totp.ActivateTOTPView):  # type: ignore[misc]
    """The page that sets up an authenticator app."""

    action = Action.MEMBER_AUTHENTICATOR_ADDED


class DeactivateTotp(_Recorded, totp.DeactivateTOTPView):  # type: ignore[misc]
    """The page that removes the authenticator app."""

    action = Action.MEMBER_AUTHENTICATOR_REMOVED


class RenewRecoveryCodes(_Recorded, recovery_codes.GenerateRecoveryCodesView):  # type: ignore[misc]
    """The page that replaces the recovery codes by new ones."""

    action = Action.MEMBER_RECOVERY_CODES_RENEWED


class YourSignIn(mfa.IndexView):  # type: ignore[misc]  # as above
    """The page of one's own sign-in, with a notice of wrong codes."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """allauth's context, and the user's `code_tries`."""
        return {**super().get_context_data(**kwargs), "code_tries": tries.code_tries_of(self.request.user)}


def _bounded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page that takes a password. A network without tries left is refused before a password is hashed."""

    @wraps(view)
    def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and tries.is_exhausted(address_of(request)):
            seconds = round(settings.AXES_COOLOFF_TIME.total_seconds())
            answer = render(request, "dashboard/locked_out.html", {"minutes": seconds // 60}, status=429)
            answer.headers["Retry-After"] = str(seconds)
            return answer
        return view(request, *args, **kwargs)

    return bounded


def address_of(request: HttpRequest) -> str:
    """The client's address, as rest.middleware determined it: X-Forwarded-For counts only from a trusted proxy."""
    return str(request.META.get("REMOTE_ADDR", ""))


def locked_out(request: HttpRequest, _response: Any, credentials: dict[str, Any] | None) -> HttpResponse:
    """The page after too many failures. It says how long to wait, and does not show whether the user exists."""
    username = (credentials or {}).get("username")
    latest = AccessAttempt.objects.filter(username=username, ip_address=address_of(request)).order_by("-attempt_time")
    attempt = latest.first()
    ends = (attempt.attempt_time if attempt else timezone.now()) + settings.AXES_COOLOFF_TIME
    seconds = max(1, round((ends - timezone.now()).total_seconds()))
    answer = render(request, "dashboard/locked_out.html", {"minutes": -(-seconds // 60)}, status=429)
    answer.headers["Retry-After"] = str(seconds)
    return answer


def has_totp(user: User) -> bool:
    """Whether a user signs in with an authenticator app."""
    found: bool = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
    return found


@transaction.atomic
def reset(user: User) -> str:
    """Give a user a new password and remove the authenticator app, when the user has lost one of them.

    Returns:
        The new password. Every session of the user has ended.
    """
    password = secrets.token_urlsafe(18)
    services.reset_password(user=user, password=password)
    had_totp = has_totp(user)
    Authenticator.objects.filter(user=user).delete()
    if had_totp:
        services.record_sign_in(user=user, action=Action.MEMBER_AUTHENTICATOR_REMOVED, by=None)
    return password


# The names are allauth's. Pages that are not listed here (registration, mail addresses, resets) have no route.
ROUTES: Final[list[URLPattern]] = [
    path("login", _bounded(account.login), name="account_login"),
    path("logout", account.logout, name="account_logout"),
    path("login/code", mfa.authenticate, name="mfa_authenticate"),
    path("join", join, name="join"),
    path("you", login_required(YourSignIn.as_view()), name="mfa_index"),
    path("you/confirm", _bounded(account.reauthenticate), name="account_reauthenticate"),
    path("you/confirm/code", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("you/password", _bounded(account.password_change), name="account_change_password"),
    path("you/authenticator", ActivateTotp.as_view(), name="mfa_activate_totp"),
    path("you/authenticator/remove", DeactivateTotp.as_view(), name="mfa_deactivate_totp"),
    path("you/recovery-codes", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("you/recovery-codes/new", RenewRecoveryCodes.as_view(), name="mfa_generate_recovery_codes"),
]
