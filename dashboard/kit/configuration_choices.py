"""The account's configurations to choose from by name, in forms and filters."""

from contextlib import suppress
from typing import Final

from django.db.models import QuerySet

from configurations.models import Configuration
from dashboard.kit.forms import Field
from gateway_core import ids

# So many are offered. Any other is reached from its own page, whose links name it.
MOST: Final = 1000
_NO_CONFIGURATION: Final = "None: everything is allowed"


def choices_of(configurations: QuerySet[Configuration], chosen: str = "") -> list[tuple[str, str]]:
    """ID and name of the newest, by name, and the chosen one whatever their number. Two queries at most.

    Args:
        configurations: the account's.
        chosen: an `aigac_…` ID; any other text chooses none.
    """
    rows = configurations.order_by("-id").values_list("id", "name")
    found = dict(rows[:MOST])
    if len(found) == MOST:
        with suppress(ids.InvalidId):
            found |= dict(rows.filter(id=ids.from_text(Configuration.id_prefix, chosen)))
    named = [(ids.to_text(Configuration.id_prefix, identity), name or "") for identity, name in found.items()]
    return sorted(named, key=lambda choice: (choice[1].casefold(), choice[0]))


def field_of(configurations: QuerySet[Configuration], chosen: str = "") -> Field:
    """The field of an access key that says which configuration it is under."""
    return Field(
        "accessKeyConfigurationId",
        "Configuration",
        "choice",
        hint="What it may reach, and by whose keys.",
        choices=(("", _NO_CONFIGURATION), *choices_of(configurations, chosen)),
    )
