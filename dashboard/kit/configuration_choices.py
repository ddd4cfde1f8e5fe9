"""The account's configurations as choices in forms and filters."""

from contextlib import suppress
from typing import Final

from django.db.models import QuerySet

from configurations.models import Configuration
from dashboard.kit.forms import Field
from gateway_core import ids

# At most so many are offered. A user reaches any other one from its own page, whose links name it.
MOST: Final = 1000
_NO_CONFIGURATION: Final = "None: everything is allowed"


def choices_of(configurations: QuerySet[Configuration], chosen: str = "") -> list[tuple[str, str]]:
    """(ID, name) of the newest configurations, sorted by name, and always of the chosen one. Two queries at most.

    Args:
        configurations: the account's.
        chosen: an `aigac_…` ID; any other text chooses nothing.
    """
    rows = configurations.order_by("-id").values_list("id", "name")
    found = dict(rows[:MOST])
    if len(found) == MOST:
        with suppress(ids.InvalidId):
            found |= dict(rows.filter(id=ids.from_text(Configuration.id_prefix, chosen)))
    named = [(ids.to_text(Configuration.id_prefix, identity), name or "") for identity, name in found.items()]
    return sorted(named, key=lambda choice: (choice[1].casefold(), choice[0]))


def field_of(configurations: QuerySet[Configuration], chosen: str = "") -> Field:
    """The form field for the configuration of an access key."""
    return Field(
        "accessKeyConfigurationId",
        "Configuration",
        "choice",
        hint="Which models it may reach, and with which provider keys.",
        choices=(("", _NO_CONFIGURATION), *choices_of(configurations, chosen)),
    )
