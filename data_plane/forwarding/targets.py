"""Where an attempt goes and how it shows its key: URL and headers, made once for each provider and surface."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from yarl import URL

from data_plane.forwarding.upstream import Way
from data_plane.state.held import HeldAccount
from gateway_core import base_urls
from gateway_core.addresses import AddressPolicy
from gateway_core.base_urls import BaseUrl, UpstreamRules
from gateway_core.catalog import BUILT_IN, KeyHeader, Surface
from gateway_core.dialects import DIALECTS, dialect_of
from gateway_core.dialects.facts import Dialect
from gateway_core.upstream_requests import MODEL

_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}
# A caller may name models that the provider does not list.
_MOST_WAYS: Final = 64


class Target(NamedTuple):
    """A provider's surface as requests are sent to it."""

    way: Way
    key_header: KeyHeader
    dialect: Dialect
    # The top-level parameters that it takes; None takes all.
    parameters: frozenset[str] | None = None
    # Whether an OpenAI stream can be asked for its usage here.
    takes_stream_options: bool = False
    # Where the tokens of a request are counted; None where the provider is not known to count them.
    counting: Way | None = None
    # The dialect that was named: a built-in provider's own, or the account's choice; empty for that of the format.
    dialect_name: str = ""
    # What every request gets beside the caller's, lower case.
    headers: Mapping[bytes, bytes] = _NO_HEADERS
    # The ways that were made of one with the model's place in its path, by model; None where it has no such place.
    ways: dict[tuple[str, bool], Way] | None = None
    # What calls beside the surfaces stand behind.
    base_url: BaseUrl | None = None

    def way_beside(self, path: str, method: bytes) -> Way:
        """The way of a call beside the surfaces.

        Args:
            path: behind the base path.
            method: of HTTP.
        """
        if self.base_url is None:
            return self.way
        return Way(self.way.policy, URL(self.base_url.at(path), encoded=True), self.way.account, method)

    def way_for(self, model: str, *, counts_tokens: bool) -> Way:
        """The way of an attempt.

        Args:
            model: as the provider spells it; gateway_core.policy has refused what may not stand in the path.
            counts_tokens: whether only its tokens are to be counted, where the target counts any.
        """
        way = self.counting if counts_tokens and self.counting is not None else self.way
        if self.ways is None:
            return way
        asked = model, way is self.way
        made = self.ways.get(asked)
        if made is None:
            if len(self.ways) >= _MOST_WAYS:
                self.ways.clear()
            url = URL(str(way.url).replace(MODEL, model), encoded=True)
            made = self.ways[asked] = Way(way.policy, url, way.account)
        return made


# Each surface needs these parameters, even if a provider does not list them.
_ESSENTIAL: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.CHAT_COMPLETIONS: ("model", "messages", "stream"),
    Surface.COMPLETIONS: ("model", "prompt", "stream"),
    Surface.RESPONSES: ("model", "input", "stream"),
    Surface.EMBEDDINGS: ("model", "input"),
    Surface.MESSAGES: ("model", "messages", "max_tokens", "stream"),
}


class Targets:
    """Finds targets: built-in providers by the worker's own package and environment, custom ones by the snapshot."""

    def __init__(self, rules: UpstreamRules, redirected: dict[str, str]) -> None:
        """Build the targets of the built-in providers.

        Args:
            rules: what the operator allows beyond the internet.
            redirected: UPSTREAM_BASE_URLS, set by the operator, so any address is allowed.
        """
        self._rules = rules
        anywhere = AddressPolicy(anywhere=True, own_ports=rules.own_ports)
        self._built_in: dict[tuple[str, Surface], Target] = {}
        for provider in BUILT_IN.values():
            base_url = _built_in(redirected.get(provider.id, provider.base_url))
            policy = anywhere if provider.id in redirected else rules.policy(base_url)
            for surface in provider.surfaces:
                url = _url(base_url, surface)
                dialect = dialect_of(provider.id, surface)
                self._built_in[provider.id, surface] = Target(
                    Way(policy, url),
                    dialect.key_header(surface),
                    dialect,
                    takes_stream_options=provider.takes_stream_options,
                    counting=_counting(policy, base_url, surface, dialect),
                    dialect_name=provider.id,
                    base_url=base_url,
                )

    def find(self, account: HeldAccount, provider: str, surface: Surface) -> Target:
        """The target of an attempt that the policy allowed.

        Raises:
            KeyError, ValueError: the provider is gone by now, or its base URL is none.
        """
        # As in gateway_core.policy, an account's own provider wins over a built-in one of the same name. Otherwise a
        # release with a new built-in provider would send the account's keys to another host.
        document = account.snapshot.providers.get(provider)
        if document is None:
            return self._built_in[provider, surface]
        known = account.targets.get((provider, surface))
        if isinstance(known, Target):
            return known
        if document.dialect and document.dialect not in DIALECTS:
            raise ValueError("a dialect that this release does not know")
        listed = next((support.parameters for support in document.surfaces if support.surface is surface), None)
        base_url = base_urls.parse(document.base_url)
        parameters = _parameters(surface, listed)
        dialect = dialect_of(document.dialect, surface)
        policy = self._rules.policy(base_url)
        own = document.paths.get(surface)
        target = Target(
            way=Way(policy, _url(base_url, surface, own), account.id),
            key_header=document.auth or dialect.key_header(surface),
            dialect=dialect,
            parameters=parameters,
            # A provider that lists no parameters takes all of them.
            takes_stream_options=parameters is None or "stream_options" in parameters,
            counting=_counting(policy, base_url, surface, dialect, account=account.id, own=own),
            dialect_name=document.dialect,
            headers={name.encode("ascii"): value.encode("ascii") for name, value in document.headers.items()},
            ways={} if own is not None and MODEL in own else None,
            base_url=base_url,
        )
        account.targets[provider, surface] = target
        return target


def _url(base_url: BaseUrl, surface: Surface, own: str | None = None, *, below: str = "") -> URL:
    """The URL of a surface, or of what stands below it.

    Args:
        own: path and query from the root of the host, where the surface does not stand behind the base URL.
        below: begins with a slash.
    """
    # They are canonical already. Encoding them again would change them.
    if own is None:
        return URL(base_url.at(f"{surface.path}{below}"), encoded=True)
    path, _, query = own.partition("?")
    return URL(base_url.at_own(f"{path}{below}", query), encoded=True)


def _counting(
    policy: AddressPolicy,
    base_url: BaseUrl,
    surface: Surface,
    dialect: Dialect,
    *,
    account: str = "",
    own: str | None = None,
) -> Way | None:
    if surface is not Surface.MESSAGES or not dialect.counts_tokens:
        return None
    return Way(policy, _url(base_url, surface, own, below="/count_tokens"), account)


def _built_in(text: str) -> BaseUrl:
    """Parse a base URL as written: built-in providers do not get the default path of custom ones."""
    return base_urls.parse(text)._replace(path=urlsplit(text).path.rstrip("/"))


def _parameters(surface: Surface, listed: Iterable[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset((*listed, *_ESSENTIAL[surface]))
