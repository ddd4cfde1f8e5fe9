"""What every page of the dashboard is made of.

A page is a thin view: it reads through querysets that start from the visit's account, writes through the services of
the rooms, and renders one template. Closed by default: the site lets nobody in who is not signed in, and a POST needs
a role that may write unless the page says otherwise.
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

from accounts.models import Membership, OwnedModel, User
from dashboard.account import NoAccount, Role, RoleTooLow, Visit, visit_of
from dashboard.navigation import SECTIONS, Section
from dashboard.sign_in import has_totp
from gateway_core import ids
from rest.errors import Conflict, Forbidden, GatewayError, NotFound, Unavailable, status_of, translate
from snapshots import outbox

# What the heading of a refusal says, by the branch of the error tree.
_HEADINGS: Final[tuple[tuple[type[GatewayError], str], ...]] = (
    (NotFound, "There is nothing here"),
    (Forbidden, "This is not allowed"),
    (Unavailable, "Please try again in a moment"),
)


# The account whose page a form is on, as the form tells it; a script tells it in a header.
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
    # The pages above this one, as (title, route name); the section itself need not be told.
    parents: ClassVar[tuple[tuple[str, str], ...]] = ()

    # The role that may look, and the one that may POST.
    least_to_read: ClassVar[Membership.Role] = Role.VIEWER
    least_to_write: ClassVar[Membership.Role] = Role.EDITOR
    # Whether it makes no sense outside of an account. Only the operator's own pages stand there.
    needs_account: ClassVar[bool] = True

    http_method_names = ["get", "head", "post"]

    visit: Visit

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Settle the account and the role, answer, and show what is refused as a page."""
        # It has written nothing yet: what dashboard.wording.apply_status tells is of this request.
        outbox.forget()
        try:
            return self._admitted_elsewhere(request) or super().dispatch(request, *args, **kwargs)
        except Exception as exception:
            error = translate(exception)
            if error is None:
                raise
            return self.refused(error)

    def _admitted_elsewhere(self, request: HttpRequest) -> HttpResponseRedirect | None:
        """Settle who asks, in which account; None: they may have this page.

        Raises:
            NoAccount: they belong to none.
            RoleTooLow: not as what they are there.
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
        # Another tab may have entered another account since; what is sent here would be written there.
        meant = "" if reads else request.headers.get(_FORM_ACCOUNT) or request.POST.get(_FORM_ACCOUNT, "")
        if meant and meant != visit.account.text_id:
            raise AccountChanged
        return None

    def owned(self, model: type[Any]) -> QuerySet[Any]:
        """All that the account has of one kind: where every look-up begins."""
        items: QuerySet[Any] = model._default_manager.filter(account=self.visit.account)
        return items

    def found(self, items: QuerySet[Any] | type[OwnedModel], text_id: str) -> Any:
        """The account's object with this ID.

        Args:
            items: a kind of thing that accounts own, or some of the account's things, with what the page needs joined.
            text_id: as it stands in the path.

        Raises:
            NotFound: no ID, another account's, or nobody's.
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
        """The page.

        Args:
            template: another one than the page's own.
            status: of the answer.
            title: another one than the page's own.
            context: for the template, beside `page`, `visit` and `sections`.
        """
        base = {
            "page": self,
            "title": title or self.title,
            "visit": getattr(self, "visit", None),
            "sections": SECTIONS,
        }
        return render(self.request, template or self.template, {**base, **context}, status=status)

    def refused(self, error: GatewayError) -> HttpResponse:
        """A page that says what was refused and why."""
        heading = next((text for kind, text in _HEADINGS if isinstance(error, kind)), "This was refused")
        return self.render(
            "dashboard/refused.html", status=status_of(type(error)), title=heading, error=error, refusal=True
        )

    def redirect(self, name: str, *args: Any, said: str = "") -> HttpResponseRedirect:
        """On to another page, with a message there."""
        if said:
            messages.success(self.request, said)
        return HttpResponseRedirect(reverse(f"dashboard:{name}", args=args))


class Missing(Page):
    """Whatever no page is at."""

    name = "missing"
    title = "There is nothing here"
    template = "dashboard/refused.html"
    least_to_write = Role.VIEWER
    needs_account = False

    def get(self, _request: HttpRequest, **_path: str) -> HttpResponse:
        """404, as a page."""
        raise NotFound("There is no such page.")

    post = get
