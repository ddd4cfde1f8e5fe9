"""Pages that ask before something is done that cannot be undone: the person types a phrase, and POSTs it."""

from dataclasses import dataclass
from typing import ClassVar

from django.http import HttpRequest, HttpResponse

from dashboard.kit.page import Page
from rest.errors import InvalidRequest, status_of, translate


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        phrase: what must be typed: the object's name, or its mask where it has none.
        consequences: a sentence for each thing that follows: when it was last used, who loses what.
        button: what the button says, a verb and its object.
        back: the address that leads out unharmed.
    """

    phrase: str
    consequences: tuple[str, ...]
    button: str
    back: str


class ConfirmedPage(Page):
    """A page about one object, `<str:text_id>` in its path: it asks `question`, and answered well does `carry_out`."""

    template = "dashboard/kit/confirmation.html"
    # Whoever may not do it need not be asked.
    least_to_read = Page.least_to_write
    # A question that is dangerous looks like it.
    is_dangerous: ClassVar[bool] = True

    def question(self, text_id: str) -> Question:
        """What to ask about the object."""
        raise NotImplementedError

    def carry_out(self, text_id: str) -> HttpResponse:
        """Do it, by a service, and say where to go on."""
        raise NotImplementedError

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Ask."""
        return self.render(question=self.question(text_id))

    def post(self, request: HttpRequest, text_id: str) -> HttpResponse:
        """Do it if the phrase is right, else ask again and say why."""
        question = self.question(text_id)
        if request.POST.get("phrase", "").strip() != question.phrase.strip():
            fault = "This is not what has to be typed here."
            return self.render(question=question, fault=fault, status=status_of(InvalidRequest))
        try:
            return self.carry_out(text_id)
        except Exception as exception:
            error = translate(exception)
            if error is None:
                raise
            return self.render(question=question, refusal=error, status=status_of(type(error)))
