"""How the `baseUrl` of an upstream is read and checked. Pure functions: the caller resolves names.

If two programs read one URL differently, the check passes one host and the request goes to another. So a URL is read
once, here, into its parts. A URL that two programs could read differently is refused. Both planes use the canonical
text made of those parts (`https://api.example.com/v1`), never the text that a client wrote. A host that a resolver
would take for an address (`0x7f000001`, `127.1`, `①②⑦.0.0.1`) is that address.

gateway_core.addresses says which addresses a host may have; this module says which of those rules hold for a URL.

Source: contract, section 5; RFC 3986; the WHATWG URL standard, section 3.5 (IPv4 numbers);
docs/decisions/0011-outgoing-addresses.md and 0070-base-urls.md.
"""

import re
import unicodedata
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway_core.addresses import WANTS_TLS, AddressPolicy, Network
from gateway_core.catalog import Surface
from gateway_core.redaction import redact

MAX_LENGTH: Final = 2048

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_DEFAULT_PATH: Final = "/v1"
_HIGHEST_PORT: Final = 65535
_LONGEST_HOST: Final = 253
_INTERNAL: Final = ".internal"
_OCTETS: Final = 4
_OCTET: Final = 255
_NO_ADDRESS: Final = "This host ends in a number, but it is not an IPv4 address."

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?"
)
_IN_BRACKETS: Final = re.compile(r"\[([0-9A-Fa-f:.]*)\](?::(.*))?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_DOT_SEGMENT: Final = re.compile(r"(?:\.|%2[Ee]){1,2}")
# An encoded slash, backslash or NUL: some servers and proxies decode it, others do not.
_HIDDEN_SLASH: Final = re.compile(r"%(?:2[Ff]|5[Cc]|00)")
# Names that Linux resolvers and RFC 6761 treat as this machine, without a look-up.
_LOCAL_NAMES: Final = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_LOCAL_ADDRESSES: Final = ("127.0.0.1", "::1")


# What stands behind a base URL, the longest first: the paths of all surfaces.
_SURFACE_PATHS: Final = sorted(
    (tuple(path.strip("/").split("/")) for path in (*(one.path for one in Surface), "/messages/count_tokens")),
    key=len,
    reverse=True,
)


class BaseUrlRefused(ValueError):
    """An upstream may not have this base URL. The message states the rule; of the URL it shows a right base at most."""


class BaseUrl(NamedTuple):
    """A base URL in its parts, each in its canonical form."""

    scheme: str
    # Lower-case ASCII without a dot at its end. An IPv6 address has no brackets here.
    host: str
    port: int
    # Begins with a slash and does not end with one.
    path: str
    # Without the question mark; None where there is none.
    query: str | None
    # The host again where it is an IP address; None where it is a name.
    address: str | None

    @property
    def text(self) -> str:
        """The canonical text of the whole URL."""
        return self._at(self.path)

    def at(self, path: str) -> str:
        """The URL of a surface: its path comes after the base's path and before its query.

        Args:
            path: as gateway_core.catalog.Surface.path has it.
        """
        return self._at(f"{self.path}{path}")

    def at_own(self, path: str, query: str) -> str:
        """The URL of a surface that stands elsewhere: from the root of the host, its query before the base's."""
        both = "&".join(filter(None, (query, self.query)))
        return self.origin + path + (f"?{both}" if both else "")

    @property
    def origin(self) -> str:
        """Scheme, host and port: `https://api.example.com`, the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}")

    @property
    def is_internal(self) -> bool:
        """Whether the host is a name of the private zone `.internal`."""
        return self.host.endswith(_INTERNAL)

    @property
    def known_addresses(self) -> tuple[str, ...]:
        """The addresses that are known without a resolver: the host if it is an address, loopback for local names."""
        if self.address is not None:
            return (self.address,)
        if self.host in _LOCAL_NAMES or self.host.endswith(".localhost"):
            return _LOCAL_ADDRESSES
        return ()

    def _at(self, path: str) -> str:
        return self.origin + path + ("" if self.query is None else f"?{self.query}")


class UpstreamRules(NamedTuple):
    """The hosts and networks that the operator allows custom providers to use, beyond hosts on the internet."""

    # UPSTREAM_ALLOWED_NETWORKS.
    networks: tuple[Network, ...] = ()
    # UPSTREAM_ALLOWED_HOSTS: `gpu.lan`, or `*.lan` for every name under it.
    hosts: frozenset[str] = frozenset()
    # Evaluation mode: a model server on the same machine.
    loopback: bool = False
    # Ports of this machine that the gateway itself listens on.
    own_ports: frozenset[int] = frozenset()

    def policy(self, base_url: BaseUrl) -> AddressPolicy:
        """The addresses that this URL's host may have. Checked when the URL is written, and for each connection."""
        is_allowed = self.allows_host(base_url.host)
        return AddressPolicy(
            allowed=self.networks,
            # Link-local and metadata addresses stay refused: a trusted name may resolve to one of them later.
            loopback=is_allowed or (self.loopback and not base_url.is_internal),
            private=base_url.is_internal or is_allowed,
            internet=base_url.scheme == "https" or base_url.is_internal or is_allowed,
            own_ports=self.own_ports,
        )

    def allows_host(self, host: str) -> bool:
        """Whether the operator named this host."""
        return host in self.hosts or any(f"*.{end}" in self.hosts for end in _ends(host))

    def refusal(self, base_url: BaseUrl, addresses: Iterable[str]) -> str | None:
        """The reason why a base URL may not be stored, or None where it may.

        Args:
            base_url: as `parse` read it.
            addresses: the addresses that its host resolves to now; empty where it does not resolve. One refused
                address is enough, because nobody can choose which of them a connection uses.
        """
        policy = self.policy(base_url)
        found = list(base_url.known_addresses or addresses)
        if not found and not policy.internet:
            return _NEEDS_TLS
        for address in found:
            reason = policy.refusal(address, base_url.port)
            if reason is not None:
                return _NEEDS_TLS if reason == WANTS_TLS else f"This host stands at {reason}."
        return None


_NEEDS_TLS: Final = "http:// is for hosts under .internal and those that the operator allows; use https://."


def parse(text: str) -> BaseUrl:
    """A base URL in its parts.

    Args:
        text: as a client wrote it.

    Raises:
        BaseUrlRefused: it is not an http:// or https:// URL, has credentials or a fragment, or can be read in two ways.
    """
    if len(text) > MAX_LENGTH:
        raise BaseUrlRefused(f"A base URL has at most {MAX_LENGTH} characters.")
    if "\\" in text or any(unicodedata.category(character)[0] in "CZ" for character in text):
        # Most readers drop tabs and newlines, and some take a backslash for a slash.
        raise BaseUrlRefused("A base URL holds no white space, no control or invisible characters and no backslash.")
    found = _URL.fullmatch(text)
    if found is None:
        raise BaseUrlRefused("This must be a URL, as in https://api.example.com/v1.")
    scheme = found["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise BaseUrlRefused("A base URL begins with https:// or, where it may, http://.")
    if "@" in found["authority"]:
        raise BaseUrlRefused("A base URL holds no credentials; store them as a provider key.")
    if found["fragment"] is not None:
        raise BaseUrlRefused("A base URL has no fragment.")
    host, port, address = _authority(found["authority"], scheme)
    return BaseUrl(scheme, host, port, _path(found["path"]), _query(found["query"]), address)


def written_path(text: str) -> str:
    """The path of a base URL without the default one: empty where none was written.

    Args:
        text: as `parse` takes it.
    """
    found = _URL.fullmatch(text)
    return found["path"].rstrip("/") if found else ""


def check_ends_before_surface(base_url: BaseUrl) -> None:
    """Refuse a base URL that ends in a surface's path, which would then stand in each request twice.

    Raises:
        BaseUrlRefused: it does. The message has the right base URL, without the query.
    """
    parts = [part for part in base_url.path.split("/") if part]
    compared = [unquote(part).casefold() for part in parts]
    for path in _SURFACE_PATHS:
        if tuple(compared[-len(path) :]) != path:
            continue
        rest = parts[: -len(path)]
        # A path may hold a key, where a proxy takes one there.
        right = redact("/".join([base_url.origin, *rest]))
        also = " and the same query" if base_url.query else ""
        place = "" if rest else f', and name the path of the surface in paths, as "/{"/".join(path)}"'
        raise BaseUrlRefused(f"A base URL ends before the path of the surface: use {right}{also}{place}.")


def parse_hosts(texts: Iterable[str]) -> frozenset[str]:
    """The hosts of UPSTREAM_ALLOWED_HOSTS in the form in which they are compared.

    Raises:
        ValueError: a text is neither a host nor `*.` followed by a host.
    """
    found = set()
    for text in texts:
        written = text.strip()
        lead, name = ("*.", written[2:]) if written.startswith("*.") else ("", written)
        bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        if ":" in bare:
            found.add(lead + _host_of(ip_address(bare)))
        else:
            found.add(lead + _host(bare)[0])
    return frozenset(found)


def _authority(text: str, scheme: str) -> tuple[str, int, str | None]:
    """Return (host, port, address). The address is the host again where it is an IP address, None otherwise."""
    if text.startswith("["):
        found = _IN_BRACKETS.fullmatch(text)
        if found is None:
            raise BaseUrlRefused("This host is not an IPv6 address, or it names a zone.")
        try:
            host = _host_of(IPv6Address(found[1]))
        except ValueError:
            raise BaseUrlRefused("This host is not an IPv6 address, or it names a zone.") from None
        return host, _port(found[2], scheme), host
    name, colon, port = text.partition(":")
    host, address = _host(name)
    return host, _port(port if colon else None, scheme), address


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        return _DEFAULT_PORTS[scheme]
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= _HIGHEST_PORT:
        raise BaseUrlRefused(f"The port of a base URL is a number from 1 to {_HIGHEST_PORT}.")
    return int(text)


def _host(text: str) -> tuple[str, str | None]:
    """Return (host, address): the host as a resolver understands it, and the same again where it is an IP address."""
    if not text:
        raise BaseUrlRefused("A base URL names a host.")
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise BaseUrlRefused("This is not a host name: labels of letters, digits and hyphens, with dots between them.")
    if _NUMBER.fullmatch(labels[-1]):
        host = _host_of(_ipv4(labels))
        return host, host
    return name, None


def _ascii(text: str) -> str:
    """A host in ASCII, as a resolver looks it up: full-width letters and foreign dots are replaced; then IDNA."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    try:
        # Python's own resolver does the same (IDNA 2003). It drops invisible characters.
        return plain if plain.isascii() else plain[: _LONGEST_HOST + 1].encode("idna").decode("ascii")
    except UnicodeError:
        raise BaseUrlRefused("This is not a host name in any script.") from None


def _ipv4(parts: list[str]) -> IPv4Address:
    """The address behind one to four numbers, decimal, octal or hexadecimal, as `inet_aton` reads them."""
    numbers = [_number(part) for part in parts]
    *leading, last = numbers
    if len(numbers) > _OCTETS or any(number > _OCTET for number in leading) or last >= 256 ** (5 - len(numbers)):
        raise BaseUrlRefused(_NO_ADDRESS)
    bits = last
    for place, number in enumerate(leading):
        bits |= number << 8 * (3 - place)
    return IPv4Address(bits)


def _number(text: str) -> int:
    try:
        if not _NUMBER.fullmatch(text):
            raise BaseUrlRefused(_NO_ADDRESS)
        if text.startswith("0x"):
            return int(text[2:] or "0", 16)
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        # An 8 or a 9 in an octal number.
        raise BaseUrlRefused(_NO_ADDRESS) from None


def _host_of(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise BaseUrlRefused("The path of a base URL is ASCII; other characters are percent-encoded.")
    if _HIDDEN_SLASH.search(text) or any(_DOT_SEGMENT.fullmatch(part) for part in text.split("/")):
        raise BaseUrlRefused("The path of a base URL has no . or .. in it and no encoded slash.")
    return text.rstrip("/") or _DEFAULT_PATH


def _query(text: str | None) -> str | None:
    if text is not None and not _QUERY.fullmatch(text):
        raise BaseUrlRefused("The query of a base URL is ASCII; other characters are percent-encoded.")
    return text or None


def _ends(host: str) -> Iterable[str]:
    """The parent domains of a host: `gpu.lab.lan` gives `lab.lan`, then `lan`."""
    while "." in host:
        host = host.partition(".")[2]
        yield host
