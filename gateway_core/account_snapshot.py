"""An account's snapshot as decisions read it: its documents, indexed for look-ups.

Source: docs/decisions/0009-snapshots.md.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway_core.catalog import model_key
from gateway_core.snapshot import (
    ConfigurationDocument,
    DocumentRefused,
    ProviderDocument,
    ProviderKeyDocument,
    Rule,
    SettingsDocument,
    seconds_of,
)


class CompiledSettings:
    """An account's settings with their durations in seconds."""

    __slots__ = (
        "access_key_limits",
        "has_credits",
        "is_limiting",
        "limits",
        "max_input_tokens",
        "max_output_tokens",
        "per_request_timeout",
        "stream_timeout",
        "total_timeout",
    )

    def __init__(self, document: SettingsDocument) -> None:
        self.total_timeout, self.per_request_timeout, self.stream_timeout = seconds_of(document)
        self.max_input_tokens = document.max_input_tokens
        self.max_output_tokens = document.max_output_tokens
        self.has_credits = document.has_credits
        self.limits = document.limits
        self.access_key_limits = document.access_key_limits
        # Whether its access keys have limits that are not their own.
        self.is_limiting = bool(document.limits or document.access_key_limits)


class AccountSnapshot:
    """All documents of an account, read and indexed for look-ups.

    Only `apply` changes a snapshot, in one synchronous step for each change. So code that does not await sees one
    state.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.version = 0
        self.settings = CompiledSettings(SettingsDocument())
        self.configurations: dict[str, CompiledConfiguration] = {}
        self.providers: dict[str, ProviderDocument] = {}
        self.provider_keys: dict[str, ProviderKeyDocument] = {}
        # IDs of provider keys by provider, newest first. An access key without a configuration uses them in this order.
        self.keys_of: dict[str, NewestFirst] = {}
        # `aigp_…` to providerId.
        self.provider_ids: dict[str, str] = {}
        self._models_of: dict[str, ProviderModels] = {}

    def apply(self, version: int, documents: Mapping[str, msgspec.Struct | None]) -> None:
        """Apply the documents of a newer version.

        Args:
            version: must be higher than the present one.
            documents: by document name, each document as `read` returns it; None where it was deleted. Token documents
                do not belong to an account's snapshot and must not be among them.

        Raises:
            DocumentRefused: the version is not newer, and nothing was applied.
        """
        if version <= self.version:
            raise DocumentRefused("an account's version that is not newer")
        self.prepare(documents)
        self.version = version

    def prepare(self, documents: Mapping[str, msgspec.Struct | None]) -> None:
        """Take in some documents of a snapshot that is not in use yet and gets its version last."""
        for name, document in documents.items():
            self._put(name, document)

    def _put(self, name: str, document: msgspec.Struct | None) -> None:
        kind, _, key = name.partition(":")
        match kind, document:
            case "settings", SettingsDocument():
                self.settings = CompiledSettings(document)
            case "settings", None:
                self.settings = CompiledSettings(SettingsDocument())
            case "configuration", ConfigurationDocument():
                self.configurations[key] = CompiledConfiguration(document)
            case "configuration", None:
                self.configurations.pop(key, None)
            case "provider", ProviderDocument():
                self._forget_provider(key)
                self.providers[key] = document
                self._models_of[key] = ProviderModels(key, document)
                self.provider_ids[document.id] = key
            case "provider", None:
                self._forget_provider(key)
            case "providerKey", ProviderKeyDocument():
                self._forget_provider_key(key)
                self.provider_keys[key] = document
                self.keys_of.setdefault(document.provider, NewestFirst()).add(key)
            case "providerKey", None:
                self._forget_provider_key(key)
            case _:
                pass  # `version`, or a kind that only a newer control plane knows

    def spelling(self, provider: str, model: str) -> str | None:
        """A custom provider's own spelling of one of its models; None where it does not list it."""
        known = self._models_of.get(provider)
        return None if known is None else known.spellings.get(model_key(provider, model))

    def serving(self, name: str) -> list[tuple[str, str]]:
        """The custom providers that list a model of this name, as (provider, spelling), the oldest first."""
        folded = name.casefold()
        found = [
            (known.id, slug, model)
            for slug, known in self._models_of.items()
            for model in known.named.get(folded, ())
        ]  # fmt: skip
        # TypeIDs sort by age. The order in which the documents arrived must not matter.
        return [(slug, model) for _, slug, model in sorted(found)]

    def _forget_provider(self, slug: str) -> None:
        if gone := self.providers.pop(slug, None):
            self.provider_ids.pop(gone.id, None)
            del self._models_of[slug]

    def _forget_provider_key(self, key: str) -> None:
        if gone := self.provider_keys.pop(key, None):
            self.keys_of[gone.provider].remove(key)


class NewestFirst:
    """IDs of one kind, the newest first. TypeIDs sort by age."""

    __slots__ = ("_oldest_first",)

    def __init__(self) -> None:
        self._oldest_first: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return reversed(self._oldest_first)

    def __len__(self) -> int:
        return len(self._oldest_first)

    def add(self, one: str) -> None:
        """Put one in its place."""
        insort(self._oldest_first, one)

    def remove(self, one: str) -> None:
        """Take one out that is in it."""
        del self._oldest_first[bisect_left(self._oldest_first, one)]


class ProviderModels:
    """A custom provider's models indexed for look-ups."""

    __slots__ = ("id", "named", "spellings")

    def __init__(self, slug: str, document: ProviderDocument) -> None:
        self.id = document.id
        # By model key, the first of each; and all by their names without case.
        self.spellings: dict[str, str] = {}
        self.named: dict[str, list[str]] = {}
        for model in document.models:
            self.spellings.setdefault(model_key(slug, model), model)
            self.named.setdefault(model.casefold(), []).append(model)


class CompiledConfiguration:
    """A configuration indexed for look-ups. Each value holds the index of its entry in the document."""

    __slots__ = ("model_rules", "models", "open_models", "provider_rules", "providers")

    def __init__(self, document: ConfigurationDocument) -> None:
        scope = document.scope
        # None restricts nothing. Otherwise: provider IDs, (provider, model key) pairs, and open model IDs, each with
        # its index.
        self.providers: dict[str, int] | None = None
        self.models: dict[tuple[str, str], int] | None = None
        self.open_models: dict[str, int] = {}
        if scope.providers is not None:
            self.providers = {provider: place for place, provider in enumerate(scope.providers)}
        if scope.models is not None:
            self.models = {}
            for place, (provider, model) in enumerate(scope.models):
                if provider:
                    self.models[provider, model_key(provider, model)] = place
                else:
                    self.open_models[model.casefold()] = place
        self.model_rules: dict[tuple[str, str], tuple[int, Rule]] = {}
        self.provider_rules: dict[str, tuple[int, Rule]] = {}
        for place, rule in enumerate(document.rules):
            if rule.model is None:
                self.provider_rules[rule.provider] = (place, rule)
            else:
                self.model_rules[rule.provider, model_key(rule.provider, rule.model)] = (place, rule)


def snapshot_of(account: str, version: int, documents: Iterable[tuple[str, msgspec.Struct]]) -> AccountSnapshot:
    """An account's snapshot, made of all its documents."""
    snapshot = AccountSnapshot(account)
    snapshot.apply(version, dict(documents))
    return snapshot
