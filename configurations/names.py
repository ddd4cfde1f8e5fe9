"""How an entry names a provider or a model: `openai`, `aigp_…`, `openai:gpt-4o`, `meta-llama/llama-3.3-70b-instruct`.

Source: contract, section 3; docs/decisions/0032-model-entries.md.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from configurations.faults import Faults
from gateway_core import ids
from gateway_core.catalog import ALIASES, FINE_TUNED, model_key
from providers.provider_names import KnownProviders

MAX_NAME_LENGTH: Final = 255
MAX_ENTRY_LENGTH: Final = 2 * MAX_NAME_LENGTH + 1

_WHITE_SPACE: Final = "A model's name must not begin or end with white space."


class Split(NamedTuple):
    """A model entry in its parts."""

    # As it was named (`openai`, `aigp_…`); empty for an open model ID.
    provider: str
    # The model of that provider, or the whole open model ID.
    model: str


class NamedModel(NamedTuple):
    """A valid model entry."""

    # The `providerId`; empty for an open model ID.
    provider: str
    # As written; an `aigp_…` ID before the slash of an open model ID is resolved.
    model: str
    # The `providerId` that the entry names in either form; None if it is unknown.
    named: str | None

    @property
    def key(self) -> tuple[str, str]:
        """The (provider, model) that is equal for entries with the same meaning."""
        return self.provider, model_key(self.provider, self.model) if self.provider else self.model.casefold()


def split(entry: str) -> Split:
    """Split an entry at its first colon. If there is a slash before it, the entry is an open model ID."""
    head, colon, rest = entry.partition(":")
    return Split(head, rest) if colon and "/" not in head else Split("", entry)


def compiled_model(entry: str, slug_of: Callable[[str], str]) -> Split:
    """A valid entry in the data plane's form: the `providerId` and its model, or an open model ID.

    Args:
        entry: as it was written.
        slug_of: as `configurations.scope.compile_scope` has it.
    """
    head, model = split(entry)
    if not head:
        return Split("", entry)
    slug = slug_of(head)
    # An account may have a provider of its own that is named so.
    return Split(slug, entry if head == FINE_TUNED and slug != head else model)


def read_provider(value: object, path: str, *, providers: KnownProviders, faults: Faults) -> str | None:
    """The `providerId` that a provider entry names; None and a fault if it is invalid."""
    name = faults.text(value, path, longest=MAX_NAME_LENGTH)
    if name is None:
        return None
    provider = providers.find(name)
    if provider is None:
        faults.add(path, providers.refusal(name))
    return provider


def read_model(value: object, path: str, *, providers: KnownProviders, faults: Faults) -> NamedModel | None:
    """The model that an entry names; None and a fault if it is invalid."""
    entry = faults.text(value, path, longest=MAX_ENTRY_LENGTH)
    if entry is None:
        return None
    head, model = split(entry)
    if not _is_name(model, path, faults):
        return None
    if head or entry.startswith(":"):
        found = providers.find_model(head, model)
        if found is None:
            faults.add(path, providers.refusal(head))
            return None
        return NamedModel(found.provider, found.model, found.provider)
    owner, slash, own = entry.partition("/")
    if not slash:
        faults.add(path, providers.bare_model_refusal(entry))
        return None
    if not owner or not own:
        faults.add(path, "An open model ID must have a name on each side of its slash.")
        return None
    if owner != owner.strip() or own != own.strip():
        faults.add(path, _WHITE_SPACE)
        return None
    provider = providers.find(owner)
    if provider is None and _is_provider_id(owner):
        faults.add(path, providers.refusal(owner))
        return None
    return NamedModel("", f"{owner if owner in ALIASES else provider or owner}/{own}", provider)


def _is_name(model: str, path: str, faults: Faults) -> bool:
    if not model:
        faults.add(path, "The model's name is missing after the colon.")
    elif model != model.strip():
        faults.add(path, _WHITE_SPACE)
    elif len(model) > MAX_NAME_LENGTH:
        faults.add(path, f"A model's name must have at most {MAX_NAME_LENGTH} characters.")
    else:
        return True
    return False


def _is_provider_id(name: str) -> bool:
    try:
        ids.from_text(ids.Prefix.PROVIDER, name)
    except ids.InvalidId:
        return False
    return True
