"""Check whether a `baseUrl` may be stored: its form, its host, and the host's current addresses.

The data plane checks every connection again, by the same rules (gateway_core.base_urls).
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from gateway_core.base_urls import BaseUrlRefused, UpstreamRules, check_ends_before_surface, parse
from providers import host_resolution

# The addresses of a host and port.
Resolve = Callable[[str, int], tuple[str, ...]]


@dataclass(frozen=True)
class VettedUrl:
    """A base URL that passed the checks. Only `vet` creates one, and services accept nothing else."""

    written: str


def vet(text: str, *, resolve: Resolve = host_resolution.resolve) -> VettedUrl:
    """Check a base URL. This asks the resolver, so do not call it inside a transaction.

    Args:
        text: the URL as a client wrote it.
        resolve: replaces the resolver, if the addresses were looked up before (`look_up`).

    Raises:
        BaseUrlRefused: the URL breaks a rule, which the error names.
    """
    base_url = parse(text)
    check_ends_before_surface(base_url)
    rules: UpstreamRules = settings.UPSTREAM_RULES
    addresses = () if base_url.known_addresses else resolve(base_url.host, base_url.port)
    reason = rules.refusal(base_url, addresses)
    if reason is not None:
        raise BaseUrlRefused(reason)
    return VettedUrl(text)


def look_up(text: object) -> Resolve:
    """Resolve a URL's host now, for a later call of `vet` in a transaction. Returns the `resolve` for that call.

    Args:
        text: the unchecked value that a client sent as a base URL.
    """
    answers: dict[tuple[str, int], tuple[str, ...]] = {}
    if isinstance(text, str):
        try:
            base_url = parse(text)
        except BaseUrlRefused:
            pass
        else:
            if not base_url.known_addresses:
                place = base_url.host, base_url.port
                answers[place] = host_resolution.resolve(*place)
    return lambda host, port: answers.get((host, port), ())
