"""Settings that both planes read from their environment in the same way. The environment is passed as a mapping.

Every NAME may also be given as NAME_FILE, the path of a file that holds the value. Container platforms give secrets so.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from gateway_core.addresses import parse_networks
from gateway_core.base_urls import UpstreamRules, parse_hosts

EVALUATION: Final = "evaluation"
PRODUCTION: Final = "production"

_HIGHEST_PORT: Final = 65535
# Where a server of a URL without a port listens.
_DEFAULT_PORTS: Final = {"redis": 6379, "rediss": 6379, "postgres": 5432, "postgresql": 5432}
_SERVERS: Final = ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE")


class EnvironmentIncomplete(Exception):
    """Settings that this mode requires are missing or malformed; the message names each of them."""


class FileUnreadable(EnvironmentIncomplete):
    """A NAME_FILE is set and its file cannot be read. The message holds the path, never the content."""

    def __init__(self, name: str, path: str, fault: Exception) -> None:
        super().__init__(f"{name}_FILE points to {path}, which cannot be read: {type(fault).__name__}.")


_Value = TypeVar("_Value")


class ReadParsed(Protocol):
    """Reads a setting: what `parse` makes of its text, or the default where it is not set."""

    def __call__(self, name: str, parse: Callable[[str], _Value], default: _Value) -> _Value: ...


def read(environ: Mapping[str, str], name: str, default: str = "") -> str:
    """The value of NAME, or the content of the file that NAME_FILE points to, without white space around it.

    Raises:
        FileUnreadable: there is no such file, or it is not UTF-8.
    """
    if value := environ.get(name):
        return value
    path = environ.get(f"{name}_FILE")
    if not path:
        return default
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise FileUnreadable(name, path, fault) from None


def listed(text: str) -> list[str]:
    """The entries of a comma-separated list, without the blanks around them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def port(text: str) -> int:
    """A port number.

    Raises:
        ValueError: the text is not one.
    """
    if not text.isascii() or not text.isdigit() or int(text) > _HIGHEST_PORT:
        raise ValueError("not a port number")
    return int(text)


def ports(text: str) -> frozenset[int]:
    """A comma-separated list of port numbers.

    Raises:
        ValueError: an entry is not one.
    """
    return frozenset(map(port, listed(text)))


def ports_of(*urls: str) -> frozenset[int]:
    """The ports of servers, by their URLs."""
    parts = [urlsplit(url) for url in urls if url]
    found = (part.port or _DEFAULT_PORTS.get(part.scheme) for part in parts)
    return frozenset(port for port in found if port is not None)


def upstream_rules(read_parsed: ReadParsed, *, mode: str, servers: frozenset[int]) -> UpstreamRules:
    """Where custom providers may be besides the internet: the same rules in both planes.

    Args:
        read_parsed: how this process reads a setting.
        mode: of the deployment.
        servers: the ports of the gateway's own servers, as `ports_of` gives them.

    Source: docs/decisions/0070-base-urls.md.
    """
    own = {
        read_parsed("CONTROL_PLANE_PORT", port, 8000),
        read_parsed("DATA_PLANE_PORT", port, 8001),
        *read_parsed("UPSTREAM_DENIED_PORTS", ports, frozenset[int]()),
    }
    return UpstreamRules(
        networks=read_parsed("UPSTREAM_ALLOWED_NETWORKS", lambda text: parse_networks(listed(text)), ()),
        hosts=read_parsed("UPSTREAM_ALLOWED_HOSTS", lambda text: parse_hosts(listed(text)), frozenset[str]()),
        loopback=mode == EVALUATION,
        own_ports=servers | own,
    )


def mode(environ: Mapping[str, str]) -> str:
    """The mode, `evaluation` or `production`. The default is evaluation, or production once a server is named.

    Raises:
        EnvironmentIncomplete: GATEWAY_MODE has another value.

    Source: docs/decisions/0002-modes.md.
    """
    chosen = environ.get("GATEWAY_MODE", "")
    if chosen:
        if chosen not in {EVALUATION, PRODUCTION}:
            raise EnvironmentIncomplete(f"GATEWAY_MODE is {EVALUATION} or {PRODUCTION}, not {chosen!r}.")
        return chosen
    return PRODUCTION if any(environ.get(name) for name in _SERVERS) else EVALUATION
