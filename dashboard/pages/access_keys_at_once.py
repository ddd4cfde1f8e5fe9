"""One change of many access keys. Each is changed in its own transaction, and the page reports each result.

A partial change is not an error here. If somebody deleted one of the keys a moment ago, the others are still disabled,
and the page names the one that was not.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse

from access_keys import services
from access_keys.models import AccessKey
from access_keys.serializers import AccessKeyForm
from accounts.principals import Principal
from configurations.models import Configuration
from dashboard.kit.configuration_choices import field_of
from dashboard.kit.forms import Form
from dashboard.kit.page import Page
from dashboard.navigation import ACCESS_KEYS
from dashboard.wording.apply_status import with_applied
from gateway_core import ids
from rest.errors import InvalidRequest, NotFound, status_of, translate

MOST: Final = 100
LIST: Final = "access-keys"


class Outcome(NamedTuple):
    """The result for one access key. An empty `refusal` means that the change was made, or was not needed."""

    text_id: str
    called: str
    refusal: str


class Action(NamedTuple):
    """An action on several access keys.

    Args:
        name: the value that the form sends.
        verb: the text of the button.
        done: the participle for the message afterwards, as in "3 access keys are disabled".
        icon: the icon of the button.
        question: the title of the page that asks first; empty where the action needs no question.
    """

    name: str
    verb: str
    done: str
    icon: str
    question: str = ""


DISABLE: Final = Action("disable", "Disable", "disabled", "block")
ENABLE: Final = Action("enable", "Enable", "enabled", "check_circle")
ASSIGN: Final = Action("assign", "Assign configuration", "moved", "tune", "Assign a configuration to {}")
DELETE: Final = Action("delete", "Delete", "deleted", "delete", "Delete {}")
ACTIONS: Final = (DISABLE, ENABLE, ASSIGN, DELETE)


class AccessKeysAtOncePage(Page):
    """`/dashboard/access-keys/at-once`: a POST of `action` and up to 100 `id`."""

    path = "access-keys/at-once"
    name = "access-keys-at-once"
    section = ACCESS_KEYS
    title = "Change access keys"
    template = "dashboard/access_keys_at_once.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Redirect a browser that opens this address from its history to the list."""
        return self.redirect(LIST)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Do the action, or ask first."""
        action = next((known for known in ACTIONS if known.name == request.POST.get("action")), None)
        chosen = list(dict.fromkeys(request.POST.getlist("id")))
        if action is None:
            raise InvalidRequest("Choose what to do with the access keys.")
        if len(chosen) > MOST:
            raise InvalidRequest(f"At most {MOST} access keys can be changed at a time.")
        if not chosen:
            messages.warning(request, "Select the access keys first.")
            return self._back()
        found = self._found(chosen)
        if action is DELETE:
            return self._delete(chosen, found)
        if action is ASSIGN:
            return self._assign(chosen, found)
        return self._carry_out(action, chosen, found, self._disabling(disabled=action is DISABLE))

    def _found(self, chosen: Sequence[str]) -> dict[str, AccessKey]:
        """The account's access keys among these IDs, by ID."""
        wanted = []
        for text_id in chosen:
            try:
                wanted.append(ids.from_text(AccessKey.id_prefix, text_id))
            except ids.InvalidId:
                continue
        rows = self.owned(AccessKey).filter(id__in=wanted).select_related("configuration").order_by("-id")
        return {access_key.text_id: access_key for access_key in rows}

    def _disabling(self, *, disabled: bool) -> Callable[[AccessKey], object]:
        def change(access_key: AccessKey) -> None:
            if access_key.disabled != disabled:
                services.update_access_key(access_key=access_key, by=self.visit.principal, disabled=disabled)

        return change

    def _assign(self, chosen: Sequence[str], found: Mapping[str, AccessKey]) -> HttpResponse:
        """Ask for the configuration, then assign it to the keys."""
        field = field_of(self.owned(Configuration))
        is_answered = "confirmed" in self.request.POST or not found
        form = Form(AccessKeyForm, (field,), submitted=self.request.POST if is_answered else None)
        if is_answered:
            with form.faults_shown():
                configuration_id = form.values().get("configuration_id")
                return self._carry_out(
                    ASSIGN,
                    chosen,
                    found,
                    lambda access_key: _put_under(access_key, configuration_id, self.visit.principal),
                )
        return self._ask(ASSIGN, chosen, found, form=form, status=form.status)

    def _delete(self, chosen: Sequence[str], found: Mapping[str, AccessKey]) -> HttpResponse:
        """Ask for a phrase, then delete the keys."""
        phrase = f"delete {_counted(len(found))}"
        typed = self.request.POST.get("phrase")
        if found and typed is None:
            return self._ask(DELETE, chosen, found, phrase=phrase)
        if found and (typed or "").strip() != phrase:
            fault = "This is not the text to type."
            return self._ask(DELETE, chosen, found, phrase=phrase, fault=fault, status=status_of(InvalidRequest))
        return self._carry_out(
            DELETE,
            chosen,
            found,
            lambda access_key: services.delete_access_key(access_key=access_key, by=self.visit.principal),
        )

    def _ask(
        self, action: Action, chosen: Sequence[str], found: Mapping[str, AccessKey], **context: Any
    ) -> HttpResponse:
        return self.render(
            title=action.question.format(_counted(len(found))),
            action=action,
            chosen=chosen,
            access_keys=list(found.values()),
            query=self.request.POST.get("query", ""),
            back=self._back().url,
            **context,
        )

    def _carry_out(
        self,
        action: Action,
        chosen: Sequence[str],
        found: Mapping[str, AccessKey],
        change: Callable[[AccessKey], object],
    ) -> HttpResponse:
        outcomes = [_outcome(text_id, found.get(text_id), change) for text_id in chosen]
        failed = [outcome for outcome in outcomes if outcome.refusal]
        done = len(outcomes) - len(failed)
        said = f"{_counted(done).capitalize()} {'is' if done == 1 else 'are'} {action.done}."
        # Only the last publication is waited for: where it is in force, all before it are in force too.
        said = with_applied(self.visit.account, said) if done else said
        if not failed:
            messages.success(self.request, said)
            return self._back()
        return self.render(
            "dashboard/access_keys_outcome.html",
            title=f"{action.verb}: not all were changed",
            said=said,
            outcomes=outcomes,
            failed=len(failed),
            back=self._back().url,
        )

    def _back(self) -> HttpResponseRedirect:
        """Redirect to the list, with the filters that it had."""
        query = QueryDict(self.request.POST.get("query", "")[:2000]).urlencode()
        address = reverse(f"dashboard:{LIST}")
        return HttpResponseRedirect(f"{address}?{query}" if query else address)


def _outcome(text_id: str, access_key: AccessKey | None, change: Callable[[AccessKey], object]) -> Outcome:
    called = (access_key.name or access_key.key_redacted) if access_key else text_id[:64]
    if access_key is None:
        return Outcome(text_id, called, NotFound.message())
    try:
        change(access_key)
    except Exception as exception:
        error = translate(exception)
        if error is None:
            raise
        # The message and the only detail of an error are often the same text.
        return Outcome(text_id, called, " ".join(dict.fromkeys([str(error), *error.details.values()])))
    return Outcome(text_id, called, "")


def _put_under(access_key: AccessKey, configuration_id: Any, by: Principal) -> None:
    if access_key.configuration_id != configuration_id:
        services.update_access_key(access_key=access_key, by=by, configuration_id=configuration_id)


def _counted(count: int) -> str:
    return "1 access key" if count == 1 else f"{count} access keys"


PAGES: Final = (AccessKeysAtOncePage,)
