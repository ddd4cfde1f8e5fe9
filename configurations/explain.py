"""Explain what the data plane would do with a request, from the state in PostgreSQL (docs/decisions/0012-explain.md).

The account's snapshot is built here from the same documents that are published, and the policy decides as in the data
plane. Nothing is sent upstream and nothing is written.
"""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from django.conf import settings

from accounts.models import Account
from configurations import router as routers
from configurations import scope as scopes
from configurations.cooling import with_cooling
from configurations.models import Configuration
from configurations.services import valid_content
from configurations.snapshot_documents import build
from gateway_core import ids
from gateway_core.account_snapshot import AccountSnapshot, snapshot_of
from gateway_core.catalog import Surface
from gateway_core.explanation import Explanation, explain
from gateway_core.snapshot import (
    ConfigurationDocument,
    ProviderKeyDocument,
    configuration_document,
    provider_key_document,
)
from provider_keys.snapshot_documents import without_values
from providers.catalog import current_catalog
from providers.snapshot_documents import for_names
from snapshots import document_kinds


class Question(NamedTuple):
    """The request to explain, and the assumptions."""

    requested: Sequence[str]
    surface: Surface = Surface.CHAT_COMPLETIONS
    # `aigpk_…` IDs and provider IDs whose calls are assumed to fail.
    failing: Sequence[str] = ()


def explain_stored(*, account: Account, configuration: Configuration | None, question: Question) -> Explanation:
    """Explain a request with a stored configuration, or without one.

    Args:
        account: the account of the access key.
        configuration: read with `with_named`; None for an access key without a configuration.
        question: the request and the assumptions.
    """
    if configuration is None:
        return _ask(account, None, {}, question)
    return _ask(account, configuration.text_id, {configuration.snapshot_document: build(configuration)}, question)


def explain_draft(*, account: Account, access: Any, router: Any, question: Question) -> Explanation:
    """Explain a request with an `access` and a `router` that are not stored.

    Raises:
        ConfigurationInvalid: they break a rule.
    """
    checked = valid_content(account, {"access": access, "router": router})
    documents: dict[str, msgspec.Struct] = {}
    places: dict[tuple[int, int, int], str] = {}
    for inline in checked.inline_keys:
        # The plan shows the key by a temporary ID and its mask; its value is not stored.
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
    found = explain(
        _snapshot(account, documents, question.requested),
        current_catalog(),
        configuration=configuration,
        requested=question.requested,
        surface=question.surface,
        failing=question.failing,
        most_attempts=settings.REQUEST_ATTEMPTS,
    )
    return with_cooling(account, found)


def _snapshot(account: Account, documents: dict[str, msgspec.Struct], requested: Sequence[str]) -> AccountSnapshot:
    """The part of the account's snapshot that a decision about these names looks at.

    An account at its quotas has thousands of keys and models. To read all of them would take half a second of a thread.
    """
    own_settings = document_kinds.port_of("settings").get().all_documents([account])
    routed = {
        provider_key_document(key)
        for document in documents.values()
        if isinstance(document, ConfigurationDocument)
        for rule in document.rules
        for step in rule.steps
        for key in step.keys
    }
    found: list[tuple[str, msgspec.Struct]] = [
        *((name, document) for _, name, document in own_settings),
        *without_values(account, routed - documents.keys(), newest=settings.REQUEST_ATTEMPTS + 1),
        *for_names(account, requested),
    ]
    return snapshot_of(account.text_id, 1, [*found, *documents.items()])


def _provider_names(access: Any, router: Any) -> set[str]:
    """Every text in `access` and `router` that may name a provider by its `aigp_…` ID."""
    names: set[str] = set()
    for dimension in ("providers", "models"):
        for entry in ((access or {}).get(dimension) or {}).get("allow") or ():
            names |= {entry, entry.partition(":")[0], entry.partition("/")[0]}
    for rule in (router or {}).get("rules", ()):
        names |= {rule.get("provider", ""), rule.get("model", "").partition(":")[0]}
    return names
