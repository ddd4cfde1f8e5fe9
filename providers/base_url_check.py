"""Whether a `baseUrl` may be stored: its form, its host, and what that resolves to at this moment.

The data plane judges every connection again, by the same rules (gateway_core.base_urls).
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from gateway_core.base_urls import BaseUrlRefused, UpstreamRules, parse
from providers import host_resolution

# The addresses of a host and port.
Resolve = Callable[[str, int], tuple[str, ...]]


@dataclass(frozen=True)
class VettedUrl:
    """A base URL that was found good. Only `vet` makes one, and services take nothing else."""

    written: str


def vet(text: str, *, resolve: Resolve = host_resolution.resolve) -> VettedUrl:
    """Judge a base URL as it was written. Asks the resolver: not inside a transaction.

    Args:
        text: as a client wrote it.
        resolve: who is asked, where that was done before (`look_up`).

    Raises:
        BaseUrlRefused: with the rule that it breaks.
    """
    base_url = parse(text)
    rules: UpstreamRules = settings.UPSTREAM_RULES
    addresses = () if base_url.known_addresses else resolve(base_url.host, base_url.port)
    reason = rules.refusal(base_url, addresses)
    if reason is not None:
        raise BaseUrlRefused(reason)
    return VettedUrl(text)


def look_up(text: object) -> Resolve:
    """Ask the resolver now what `vet` wants to know of a URL later, when a transaction may be open.

    Args:
        text: whatever a client sent as a base URL.
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
