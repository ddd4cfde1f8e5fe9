"""Pages that ask before an action that cannot be undone. The user types a phrase and sends it by POST."""

from dataclasses import dataclass
from typing import ClassVar

from django.http import HttpRequest, HttpResponse

from dashboard.kit.page import Page
from rest.errors import InvalidRequest, status_of, translate


@dataclass(frozen=True)
class Question:
    """The question of a page.

    Args:
        phrase: the text to type: the object's name, or its mask where it has no name.
        consequences: one sentence for each consequence: when it was last used, which requests will be refused.
        button: the text of the button, a verb and its object.
        back: the address of the link that cancels.
    """

    phrase: str
    consequences: tuple[str, ...]
    button: str
    back: str


class ConfirmedPage(Page):
    """A page about one object, with `<str:text_id>` in its path. It asks `question` and then runs `carry_out`."""

    template = "dashboard/kit/confirmation.html"
    # A user who may not do it cannot open the page either.
    least_to_read = Page.least_to_write
    # True shows the question as a dangerous one.
    is_dangerous: ClassVar[bool] = True

    def question(self, text_id: str) -> Question:
        """The question about the object."""
        raise NotImplementedError

    def carry_out(self, text_id: str) -> HttpResponse:
        """Call the service, and return the redirect."""
        raise NotImplementedError

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the page with the question."""
        return self.render(question=self.question(text_id))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Run `carry_out` if the phrase is right, else show the question again with the fault."""
        question = self.question(text_id)
        if request.POST.get("phrase", "").strip() != question.phrase.strip():
            fault = "This is not the text to type."
            return self.render(question=question, fault=fault, status=status_of(InvalidRequest))
        try:
            return self.carry_out(text_id)
        except Exception as exception:
            error = translate(exception)
            if error is None:
                raise
            return self.render(question=question, refusal=error, status=status_of(type(error)))
