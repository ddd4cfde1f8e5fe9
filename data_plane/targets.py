"""Where an attempt goes and how it shows its key: URL and headers, made once for each provider and surface."""

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from yarl import URL

from data_plane.store import Account
from data_plane.upstream import Trust
from gateway_core.catalog import BUILT_IN, KeyHeader, Surface

_ANTHROPIC_KEY: Final = KeyHeader(name="x-api-key", prefix="")
_BEARER: Final = KeyHeader()
_DEFAULT_PATH: Final = "/v1"
_INTERNAL: Final = ".internal"


class Target(NamedTuple):
    """A provider's surface as requests are sent to it."""

    url: URL
    trust: Trust
    key_header: KeyHeader
    # The top-level parameters that it takes; None takes all.
    parameters: frozenset[str] | None = None

    def with_query(self, query: str) -> URL:
        """The URL with a caller's query after its own."""
        if not query:
            return self.url
        own = self.url.raw_query_string
        return URL(f"{self.url.with_query(None)}?{own}{'&' if own else ''}{query}", encoded=True)


# What a surface is nothing without, whatever a provider lists.
_ESSENTIAL: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.CHAT_COMPLETIONS: ("model", "messages", "stream"),
    Surface.COMPLETIONS: ("model", "prompt", "stream"),
    Surface.RESPONSES: ("model", "input", "stream"),
    Surface.EMBEDDINGS: ("model", "input"),
    Surface.MESSAGES: ("model", "messages", "max_tokens", "stream"),
}


class Targets:
    """Finds targets: built-in providers by the worker's own package and environment, custom ones by the snapshot."""

    def __init__(self, base_urls: dict[str, str]) -> None:
        self._built_in = {
            (provider.id, surface): Target(
                url=_url(base_urls.get(provider.id, provider.base_url), surface),
                trust=Trust.OPERATOR if provider.id in base_urls else Trust.INTERNET,
                key_header=provider.key_header(surface),
            )
            for provider in BUILT_IN.values()
            for surface in provider.surfaces
        }

    def find(self, account: Account, provider: str, surface: Surface) -> Target:
        """The target of an attempt that the policy allowed."""
        target = self._built_in.get((provider, surface))
        if target is not None:
            return target
        known = account.targets.get((provider, surface))
        if isinstance(known, Target):
            return known
        document = account.snapshot.providers[provider]
        listed = next((support.parameters for support in document.surfaces if support.surface is surface), None)
        target = Target(
            url=_url(document.base_url, surface, default_path=_DEFAULT_PATH),
            trust=_trust(document.base_url),
            key_header=_ANTHROPIC_KEY if surface is Surface.MESSAGES else _BEARER,
            parameters=_parameters(surface, listed),
        )
        account.targets[provider, surface] = target
        return target


def _trust(base_url: str) -> Trust:
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    return Trust.INTERNAL if host.endswith(_INTERNAL) else Trust.INTERNET


def _url(base_url: str, surface: Surface, *, default_path: str = "") -> URL:
    """The surface's path after the base's path and before its query (contract, section 5)."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/") or default_path
    return URL(urlunsplit((parts.scheme, parts.netloc, path + surface.path, parts.query, "")))


def _parameters(surface: Surface, listed: Iterable[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset((*listed, *_ESSENTIAL[surface]))
