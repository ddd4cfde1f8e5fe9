"""What the data plane would do with a request, and why, asked of PostgreSQL (docs/decisions/0012-explain.md).

The account's snapshot is built here from the very documents that are published; the decision is the policy's. Nothing
is sent upstream and nothing is written.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from accounts.models import Account
from configurations import router as routers
from configurations import scope as scopes
from configurations.models import Configuration
from configurations.services import valid_content
from configurations.snapshot_documents import build
from gateway_core import ids
from gateway_core.catalog import Surface
from gateway_core.explanation import Explanation, explain
from gateway_core.snapshot import (
    AccountSnapshot,
    ConfigurationDocument,
    ProviderKeyDocument,
    configuration_document,
    provider_key_document,
    snapshot_of,
)
from providers.catalog import current_catalog
from snapshots import document_kinds

# The kinds of document that a decision does not need in full: the one configuration is put in by hand.
_APART: Final = frozenset({"token", "configuration"})


class Question(NamedTuple):
    """What is asked: a request as the data plane would get it, and what to assume."""

    requested: Sequence[str]
    surface: Surface = Surface.CHAT_COMPLETIONS
    # `aigpk_…` IDs and provider IDs whose calls are taken to fail.
    failing: Sequence[str] = ()


def explain_stored(*, account: Account, configuration: Configuration | None, question: Question) -> Explanation:
    """What an access key under a stored configuration, or under none, may do.

    Args:
        account: whose it is.
        configuration: read with `with_named`; None for a key without one.
        question: what is asked.
    """
    if configuration is None:
        return _ask(account, None, {}, question)
    return _ask(account, configuration.text_id, {configuration.snapshot_document: build(configuration)}, question)


def explain_draft(*, account: Account, access: Any, router: Any, question: Question) -> Explanation:
    """The same for an `access` and `router` that are not stored, and will not be.

    Raises:
        ConfigurationInvalid: they break a rule.
    """
    checked = valid_content(account, {"access": access, "router": router})
    documents: dict[str, msgspec.Struct] = {}
    places: dict[tuple[int, int, int], str] = {}
    for inline in checked.inline_keys:
        # The key stands in the plan under an ID of the moment, by its mask; its value goes nowhere.
        places[inline.place] = ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id())
        documents[provider_key_document(places[inline.place])] = ProviderKeyDocument(
            provider=inline.provider, mask=inline.value.mask, sealed=b""
        )
    slugs = {name: slug for name in _provider_names(access, router) if (slug := checked.providers.find(name))}
    stored = None if router is None else routers.stored_form(router, places)
    draft = ids.to_text(ids.Prefix.CONFIGURATION, uuid.UUID(int=0))
    documents[configuration_document(draft)] = ConfigurationDocument(
        scope=scopes.compile_scope(access, lambda name: slugs.get(name, name)),
        rules=routers.compile_rules(stored, lambda name: slugs.get(name, name)),
    )
    return _ask(account, draft, documents, question)


def _ask(
    account: Account, configuration: str | None, documents: dict[str, msgspec.Struct], question: Question
) -> Explanation:
    return explain(
        _snapshot(account, documents),
        current_catalog(),
        configuration=configuration,
        requested=question.requested,
        surface=question.surface,
        failing=question.failing,
    )


def _snapshot(account: Account, documents: dict[str, msgspec.Struct]) -> AccountSnapshot:
    found = [
        (name, document)
        for kind in document_kinds.kinds()
        if kind.name not in _APART
        for _, name, document in kind.all_documents([account])
    ]
    return snapshot_of(account.text_id, 1, [*found, *documents.items()])


def _provider_names(access: Any, router: Any) -> set[str]:
    """Every text in the two that may name a provider by its `aigp_…` ID."""
    names: set[str] = set()
    for dimension in ("providers", "models"):
        for entry in ((access or {}).get(dimension) or {}).get("allow") or ():
            names |= {entry, entry.partition(":")[0], entry.partition("/")[0]}
    for rule in (router or {}).get("rules", ()):
        names |= {rule.get("provider", ""), rule.get("model", "").partition(":")[0]}
    return names
