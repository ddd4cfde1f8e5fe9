"""The base class of every page of the dashboard.

A page is a thin view: it reads through querysets that start from the visit's account, writes through the services of
the rooms, and renders one template. Pages are closed by default: the site admits signed-in users only, and a POST needs
a role that may write, unless the page declares another one.
"""

from typing import Any, ClassVar, Final

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views import View

from accounts.models import Membership, User
from accounts.owned.models import OwnedModel
from dashboard.account import NoAccount, Role, RoleTooLow, Visit, visit_of
from dashboard.navigation import SECTIONS, Section
from dashboard.sign_in import has_totp
from gateway_core import ids
from rest.errors import Conflict, Forbidden, GatewayError, NotFound, Unavailable, status_of, translate
from snapshots import outbox

# The heading of an error page, by the branch of the error tree.
_HEADINGS: Final[tuple[tuple[type[GatewayError], str], ...]] = (
    (NotFound, "There is nothing here"),
    (Forbidden, "This is not allowed"),
    (Unavailable, "Please try again in a moment"),
)


# The account that a form was opened in: the name of its hidden field, and of the header that scripts use.
_FORM_ACCOUNT: Final = "form-account"


class AccountChanged(Conflict):
    """This form belongs to another account than the one that you are in now. Nothing was written."""

    code = "account_changed"


class Page(View):
    """One page. Its route is `path` under `/dashboard/`, its name `name`: `{% url "dashboard:access-keys" %}`."""

    path: ClassVar[str]
    name: ClassVar[str]
    section: ClassVar[Section | None] = None
    title: ClassVar[str]
    template: ClassVar[str]
    # The pages above this one, as (title, route name), without the section itself.
    parents: ClassVar[tuple[tuple[str, str], ...]] = ()

    # The lowest role that may GET, and the lowest that may POST.
    least_to_read: ClassVar[Membership.Role] = Role.VIEWER
    least_to_write: ClassVar[Membership.Role] = Role.EDITOR
    # Whether the page needs an account. Only pages of the operator do not.
    needs_account: ClassVar[bool] = True

    http_method_names = ["get", "head", "post"]

    visit: Visit

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Check the account and the role, call the handler, and show refusals as an error page."""
        # The request has not written yet, so dashboard.wording.apply_status reports this request's writes only.
        outbox.forget()
        try:
            return self._admitted_elsewhere(request) or super().dispatch(request, *args, **kwargs)
        except Exception as exception:
            error = translate(exception)
            if error is None:
                raise
            return self.refused(error)

    def _admitted_elsewhere(self, request: HttpRequest) -> HttpResponseRedirect | None:
        """Determine the visit and check its role. Returns a redirect, or None where the visit may have this page.

        Raises:
            NoAccount: the user does not belong to any account.
            RoleTooLow: the user's role does not allow it.
            AccountChanged: the form was opened in another account.
        """
        user = request.user
        if settings.DASHBOARD_REQUIRE_TOTP and isinstance(user, User) and not has_totp(user):
            return HttpResponseRedirect(reverse("mfa_activate_totp"))
        visit = visit_of(request)
        if visit is None:
            if not self.needs_account:
                return None
            if not user.is_superuser:
                raise NoAccount
            return HttpResponseRedirect(reverse("dashboard:accounts"))
        self.visit = visit
        reads = request.method in {"GET", "HEAD"}
        if not visit.may(self.least_to_read if reads else self.least_to_write):
            raise RoleTooLow
        # Another tab may have entered another account since. Without this check the form would write to that account.
        meant = "" if reads else request.headers.get(_FORM_ACCOUNT) or request.POST.get(_FORM_ACCOUNT, "")
        if meant and meant != visit.account.text_id:
            raise AccountChanged
        return None

    def owned(self, model: type[Any]) -> QuerySet[Any]:
        """All objects of one model that the account owns. Every look-up begins here."""
        items: QuerySet[Any] = model._default_manager.filter(account=self.visit.account)
        return items

    def found(self, items: QuerySet[Any] | type[OwnedModel], text_id: str) -> Any:
        """The account's object with this ID.

        Args:
            items: a model that accounts own, or a queryset of the account's objects with the joins that the page needs.
            text_id: the ID in the path.

        Raises:
            NotFound: this is not an ID, or the account has no object with this ID.
        """
        narrowed = self.owned(items) if isinstance(items, type) else items.filter(account=self.visit.account)
        try:
            item = narrowed.filter(id=ids.from_text(narrowed.model.id_prefix, text_id)).first()
        except ids.InvalidId:
            raise NotFound from None
        if item is None:
            raise NotFound
        return item

    def render(self, template: str = "", *, status: int = 200, title: str = "", **context: Any) -> HttpResponse:
        """Render the page.

        Args:
            template: a template other than the page's own.
            status: the HTTP status.
            title: a title other than the page's own.
            context: variables of the template, beside `page`, `visit` and `sections`.
        """
        base = {
            "page": self,
            "title": title or self.title,
            "visit": getattr(self, "visit", None),
            "sections": SECTIONS,
        }
        return render(self.request, template or self.template, {**base, **context}, status=status)

    def refused(self, error: GatewayError) -> HttpResponse:
        """Render the error page: what was refused and why."""
        heading = next((text for kind, text in _HEADINGS if isinstance(error, kind)), "This was refused")
        return self.render(
            "dashboard/refused.html", status=status_of(type(error)), title=heading, error=error, refusal=True
        )

    def redirect(self, name: str, *args: Any, said: str = "") -> HttpResponseRedirect:
        """Redirect to another page, which shows the message `said`."""
        if said:
            messages.success(self.request, said)
        return HttpResponseRedirect(reverse(f"dashboard:{name}", args=args))


class Missing(Page):
    """The page of every address that has no page."""

    name = "missing"
    title = "There is nothing here"
    template = "dashboard/refused.html"
    least_to_write = Role.VIEWER
    needs_account = False

    def get(self, _request: HttpRequest, **_path: str) -> HttpResponse:
        """Always a 404, as a page."""
        raise NotFound("There is no such page.")

    post = get
