"""Which network addresses an outgoing request may reach. Pure: nothing is resolved here.

`ipaddress.is_global` passes a dozen dangerous ones, hence an explicit list. Names must be judged by the addresses that
they resolve to, and every connection by the address that it is made to: at write time, and again at connect time.

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
    """What an address is that is not simply a host on the internet."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    RESERVED = "reserved"


_LIST: Final = (
    # Cloud metadata, before the wider networks that hold it.
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
    ("240.0.0.0/4", AddressClass.RESERVED),  # with the broadcast address
    # Inside 2000::/3; all else outside of it is reserved anyway, so NAT64 and the unspecified address are.
    ("2001::/23", AddressClass.RESERVED),  # Teredo and other protocol assignments
    ("2001:db8::/32", AddressClass.RESERVED),
    ("3fff::/20", AddressClass.RESERVED),
)
_CLASSES: Final = tuple((ipaddress.ip_network(network), kind) for network, kind in _LIST)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# ISATAP: an IPv4 address in the last 32 bits behind one of these identifiers.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

# What is said of an upstream that may not be called in clear over the internet.
WANTS_TLS: Final = "an address on the internet, which wants https://"


def parse(text: str) -> Address:
    """An address as a socket knows it; an IPv4 address in IPv6 clothes becomes itself again, a scope is dropped.

    Raises:
        ValueError: it is none.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def classify(address: Address) -> AddressClass | None:
    """What an address is, or None for a host on the internet."""
    for network, kind in _CLASSES:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        carried = _carried(address)
        if carried is not None:
            # A translator's or a tunnel's way to an IPv4 address. Who allows its network does not mean the metadata.
            return AddressClass.METADATA if classify(carried) is AddressClass.METADATA else AddressClass.RESERVED
        if address not in _GLOBAL_UNICAST:
            return AddressClass.RESERVED
    return None


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address within an IPv6 one: compatible, translated (RFC 6052), 6to4, ISATAP."""
    bits = int(address)
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or bits >> 32 == 0 or (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    return None


class AddressPolicy(NamedTuple):
    """What one kind of upstream may resolve to, beyond the internet."""

    # Networks that the operator allows, whatever they are; metadata addresses only when named one by one.
    allowed: tuple[Network, ...] = ()
    loopback: bool = False
    private: bool = False
    # The operator named this very upstream.
    anywhere: bool = False
    # False for http:// upstreams: only what the other fields name.
    internet: bool = True
    # Ports of this machine that are never an upstream: the gateway's own.
    own_ports: frozenset[int] = frozenset()

    def refusal(self, text: str, port: int) -> str | None:
        """Why a connection to an address is refused, or None where it is allowed."""
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
        ValueError: one is none, or has bits set beyond its prefix.
    """
    return tuple(ipaddress.ip_network(text.strip()) for text in texts if text.strip())


_classify = lru_cache(maxsize=4096)(classify)


def _is_this_host(address: Address) -> bool:
    return address.is_loopback or address.is_unspecified
