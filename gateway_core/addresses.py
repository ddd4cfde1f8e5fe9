"""Which network addresses an outgoing request may reach. Pure functions: this module resolves no names.

`ipaddress.is_global` accepts a dozen dangerous networks, so this module has an explicit list. A caller checks a name
by the addresses that it resolves to: when it is written, and again when a connection is made.

Source: the IANA special-purpose address registries; docs/decisions/0011-outgoing-addresses.md.
"""

import ipaddress
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressClass(StrEnum):
    """The kind of an address that is not an ordinary host on the internet."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    RESERVED = "reserved"


_LIST: Final = (
    # Cloud metadata stands first, because the wider networks below contain these addresses.
    ("169.254.169.254/32", AddressClass.METADATA),
    ("169.254.170.0/24", AddressClass.METADATA),  # Amazon ECS and EKS
    ("168.63.129.16/32", AddressClass.METADATA),  # Azure's host
    ("100.100.100.200/32", AddressClass.METADATA),  # Alibaba
    ("192.0.0.192/32", AddressClass.METADATA),  # Oracle
    ("fd00:ec2::/32", AddressClass.METADATA),  # Amazon
    ("fd20:ce::254/128", AddressClass.METADATA),  # Google
    ("127.0.0.0/8", AddressClass.LOOPBACK),
    ("::1/128", AddressClass.LOOPBACK),
    ("10.0.0.0/8", AddressClass.PRIVATE),
    ("172.16.0.0/12", AddressClass.PRIVATE),
    ("192.168.0.0/16", AddressClass.PRIVATE),
    ("100.64.0.0/10", AddressClass.PRIVATE),  # carriers' shared space
    ("fc00::/7", AddressClass.PRIVATE),
    ("169.254.0.0/16", AddressClass.LINK_LOCAL),
    ("fe80::/10", AddressClass.LINK_LOCAL),
    ("0.0.0.0/8", AddressClass.RESERVED),  # "this host": reaches loopback on Linux
    ("192.0.0.0/24", AddressClass.RESERVED),
    ("192.0.2.0/24", AddressClass.RESERVED),
    ("192.88.99.0/24", AddressClass.RESERVED),  # 6to4 relays
    ("198.18.0.0/15", AddressClass.RESERVED),
    ("198.51.100.0/24", AddressClass.RESERVED),
    ("203.0.113.0/24", AddressClass.RESERVED),
    ("224.0.0.0/4", AddressClass.RESERVED),  # multicast
    ("240.0.0.0/4", AddressClass.RESERVED),  # includes the broadcast address
    # These are inside 2000::/3. Everything outside of it is reserved by `classify`: NAT64, the unspecified address.
    ("2001::/23", AddressClass.RESERVED),  # Teredo and other protocol assignments
    ("2001:db8::/32", AddressClass.RESERVED),
    ("3fff::/20", AddressClass.RESERVED),
)
_CLASSES: Final = tuple((ipaddress.ip_network(network), kind) for network, kind in _LIST)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# ISATAP: an IPv4 address in the last 32 bits behind one of these identifiers.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

# The reason for refusing an http:// upstream on the internet.
WANTS_TLS: Final = "an address on the internet, which wants https://"


def parse(text: str) -> Address:
    """Read an address. An IPv4-mapped IPv6 address becomes the IPv4 address, and a scope (`%eth0`) is dropped.

    Raises:
        ValueError: the text is not an IP address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def neighbourhood(text: str) -> str:
    """What one client may be taken to have: an IPv4 address, or the first of an IPv6 address's /64 network.

    A client with one IPv6 address has a /64 of them, so that a count by address would count nothing. A text that is
    not an address is returned as it is.
    """
    try:
        address = parse(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


def classify(address: Address) -> AddressClass | None:
    """The kind of an address, or None for an ordinary host on the internet."""
    for network, kind in _CLASSES:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        carried = _carried(address)
        if carried is not None:
            # A translator or a tunnel leads to this IPv4 address. An operator who allows the network of the
            # translator does not mean the metadata address behind it.
            return AddressClass.METADATA if classify(carried) is AddressClass.METADATA else AddressClass.RESERVED
        if address not in _GLOBAL_UNICAST:
            return AddressClass.RESERVED
    return None


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 address (compatible, translated by RFC 6052, 6to4, ISATAP), or None."""
    bits = int(address)
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or bits >> 32 == 0 or (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    return None


class AddressPolicy(NamedTuple):
    """The addresses that one kind of upstream may resolve to, beyond hosts on the internet."""

    # Networks of any kind that the operator allows. A metadata address is allowed only by a network of one address.
    allowed: tuple[Network, ...] = ()
    loopback: bool = False
    private: bool = False
    # True where the operator named this upstream: every address is allowed.
    anywhere: bool = False
    # False for http:// upstreams: they may reach only the addresses that the other fields allow.
    internet: bool = True
    # The gateway's own ports on this machine. They are never an upstream.
    own_ports: frozenset[int] = frozenset()

    def refusal(self, text: str, port: int) -> str | None:
        """The reason why a connection to an address is refused, or None where it is allowed."""
        try:
            address = parse(text)
        except ValueError:
            return "not an IP address"
        kind = _classify(address)
        if kind in {AddressClass.LOOPBACK, AddressClass.RESERVED} and port in self.own_ports and _is_this_host(address):
            return "a port of the gateway itself"
        if (kind is None and self.internet) or self._is_allowed(address, kind):
            return None
        return WANTS_TLS if kind is None else f"a {kind} address"

    def _is_allowed(self, address: Address, kind: AddressClass | None) -> bool:
        if self.anywhere:
            return True
        if (kind is AddressClass.LOOPBACK and self.loopback) or (kind is AddressClass.PRIVATE and self.private):
            return True
        return any(
            address.version == network.version
            and address in network
            and (kind is not AddressClass.METADATA or network.num_addresses == 1)
            for network in self.allowed
        )


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from their texts (`10.1.0.0/16`, `fd00::/8`, `192.168.1.7`).

    Raises:
        ValueError: a text is not a network, or has bits set beyond its prefix.
    """
    return tuple(ipaddress.ip_network(text.strip()) for text in texts if text.strip())


_classify = lru_cache(maxsize=4096)(classify)


def _is_this_host(address: Address) -> bool:
    return address.is_loopback or address.is_unspecified
