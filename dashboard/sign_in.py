"""Signing in: allauth's flows for password, authenticator app and recovery codes, throttled by axes.

There is no registration and no reset by mail: members come by invitation, and the operator gives a new password with
`manage.py reset_sign_in`. One throttle counts wrong passwords and wrong codes alike, by user name and client address,
in PostgreSQL, so that it holds for all processes (docs/decisions/0091-sign-in.md).
"""

import base64
import secrets
from typing import Any, Final

from allauth.account import views as account
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base import views as mfa
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
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
from dashboard.join import join

# Three periods: the present one, and one before and after (MFA_TOTP_TOLERANCE).
_CODE_IS_GOOD_SECONDS: Final = 90


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """How allauth sees our users."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Nobody registers by themselves."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """As rest.middleware settled it."""
        return address_of(request)

    def set_password(self, user: User, password: str) -> None:
        """A service's work: the change and its event commit together."""
        services.change_password(user=user, password=password)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """Back to where one's own sign-in is looked after."""
        return reverse("mfa_index")


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # as above
    """How allauth keeps authenticators: sealed with a key from SECRET_KEY; a copy of the table signs nobody in."""

    def encrypt(self, text: str) -> str:
        """Seal a secret."""
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Open it again. After a new SECRET_KEY nothing opens; `manage.py reset_sign_in` helps then."""
        return _fernet().decrypt(encrypted_text.encode()).decode()

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """Not where an authenticator app is required."""
        return not settings.DASHBOARD_REQUIRE_TOTP


class _Throttled:
    """Counts wrong codes where wrong passwords are counted, takes none while there were too many, and none twice.

    allauth remembers a used code for one period; with its tolerance a code is good for three.
    """

    def clean_code(self: Any) -> str:
        """allauth's, behind the throttle."""
        request, credentials = context.request, {"username": self.user.get_username()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            # What the person sees is the page of `locked_out`, in place of this form with its fault.
            request.axes_locked_out, request.axes_credentials = True, credentials
            raise ValidationError("Too many tries.")
        used = f"used_code:{self.user.pk}:{''.join(self.cleaned_data['code'].split())}"
        if cache.get(used):
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            raise ValidationError("This code was used already. Wait for the next one.")
        code: str = super().clean_code()  # type: ignore[misc]
        cache.set(used, 1, timeout=_CODE_IS_GOOD_SECONDS)
        return code

    def _emit_authentication_failed(self: Any, authenticator: Authenticator) -> None:
        super()._emit_authentication_failed(authenticator)  # type: ignore[misc]
        credentials = {"username": self.user.get_username()}
        user_login_failed.send(sender=__name__, credentials=credentials, request=context.request)


class ThrottledAuthenticateForm(_Throttled, AuthenticateForm):  # type: ignore[misc]
    """The code at sign-in."""


class ThrottledReauthenticateForm(_Throttled, ReauthenticateForm):  # type: ignore[misc]
    """The code before one's own sign-in is changed."""


class _Recorded:
    """Writes the audit's event in the transaction of what the form does."""

    action: Action

    @transaction.atomic
    def form_valid(self: Any, form: Any) -> HttpResponse:
        """allauth's, and the event."""
        answer: HttpResponse = super().form_valid(form)  # type: ignore[misc]
        user = self.request.user
        services.record_sign_in(user=user, action=self.action, by=Principal.of(user))
        return answer


class ActivateTotp(_Recorded, totp.ActivateTOTPView):  # type: ignore[misc]
    """An authenticator app is set up."""

    action = Action.MEMBER_AUTHENTICATOR_ADDED


class DeactivateTotp(_Recorded, totp.DeactivateTOTPView):  # type: ignore[misc]
    """It is taken off again."""

    action = Action.MEMBER_AUTHENTICATOR_REMOVED


class RenewRecoveryCodes(_Recorded, recovery_codes.GenerateRecoveryCodesView):  # type: ignore[misc]
    """New recovery codes in place of the old ones."""

    action = Action.MEMBER_RECOVERY_CODES_RENEWED


def address_of(request: HttpRequest) -> str:
    """The client's address as rest.middleware settled it: a proxy's word counts only if the proxy is trusted."""
    return str(request.META.get("REMOTE_ADDR", ""))


def locked_out(request: HttpRequest, _response: Any, credentials: dict[str, Any] | None) -> HttpResponse:
    """The page for who failed too often: how long to wait, and nothing about whether there is such a user."""
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
    """Give a user a new password and forget the authenticator app: for who lost one of them.

    Returns:
        The password; every session of the user has ended.
    """
    password = secrets.token_urlsafe(18)
    services.reset_password(user=user, password=password)
    had_totp = has_totp(user)
    Authenticator.objects.filter(user=user).delete()
    if had_totp:
        services.record_sign_in(user=user, action=Action.MEMBER_AUTHENTICATOR_REMOVED, by=None)
    return password


def _fernet() -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"gateway-admin dashboard authenticators").derive(
        settings.SECRET_KEY.encode()
    )
    return Fernet(base64.urlsafe_b64encode(derived))


# The names are allauth's. What is not listed here (registration, mail addresses, resets) has no route.
ROUTES: Final[list[URLPattern]] = [
    path("login", account.login, name="account_login"),
    path("logout", account.logout, name="account_logout"),
    path("login/code", mfa.authenticate, name="mfa_authenticate"),
    path("join", join, name="join"),
    path("you", mfa.index, name="mfa_index"),
    path("you/confirm", account.reauthenticate, name="account_reauthenticate"),
    path("you/confirm/code", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("you/password", account.password_change, name="account_change_password"),
    path("you/authenticator", ActivateTotp.as_view(), name="mfa_activate_totp"),
    path("you/authenticator/remove", DeactivateTotp.as_view(), name="mfa_deactivate_totp"),
    path("you/recovery-codes", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("you/recovery-codes/new", RenewRecoveryCodes.as_view(), name="mfa_generate_recovery_codes"),
]
