"""Questions to `explain` on a page: the question comes from its query string, and the answer is put into words."""

from typing import Any

from django.http import QueryDict
from django.urls import reverse
from rest_framework import serializers

from accounts.models import Account
from configurations.explain import explain_stored
from configurations.explain_forms import ExplainForm, question_of
from configurations.models import Configuration
from dashboard.wording import explain_text
from dashboard.wording.scope_summary import ProviderNames
from gateway_core.catalog import Surface
from rest.errors import details_of


def answered(
    asked: QueryDict, *, account: Account, configuration: Configuration | None, names: ProviderNames
) -> dict[str, Any]:
    """The context of `dashboard/kit/test.html`: the question, and its answer or its faults.

    Args:
        asked: `model`, `fallbacks` (with commas), `surface`, `failing`. Without a model there is no question.
        account: the account of the configuration.
        configuration: read with `with_named`; None for a key without one.
        names: the names of the account's providers.
    """
    model, fallbacks = asked.get("model", "").strip(), asked.get("fallbacks", "")
    surface, failing = asked.get("surface", Surface.CHAT_COMPLETIONS), asked.getlist("failing")
    shown: dict[str, Any] = {
        "question": {"model": model, "fallbacks": fallbacks, "surface": surface, "failing": failing},
        "surfaces": list(Surface),
        "choices": reverse("dashboard:configuration-choices", args=["models"]),
    }
    if not model and not fallbacks:
        return shown
    models = fallbacks.replace(",", " ").split()
    body = {"model": model, "surface": surface, "assume": {"failing": failing}} | ({"models": models} if models else {})
    form = ExplainForm(data=body)
    try:
        form.is_valid(raise_exception=True)
    except serializers.ValidationError as refusal:
        return shown | {"question_faults": list(details_of(refusal.detail).values())}
    found = explain_stored(
        account=account, configuration=configuration, question=question_of(dict(form.validated_data))
    )
    return shown | {"plan": explain_text.shown_plan(found, names)}
