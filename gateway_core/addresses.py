"""Which network addresses an upstream may have, so that a `baseUrl` cannot turn the gateway inward.

One list for both planes: the control plane asks when a custom provider is written, the data plane again for the very
address that it connects to. `ipaddress.is_global` is not enough: it passes translated and tunnelled forms of inward
addresses, and the metadata services of several clouds.

Source: docs/decisions/0011-outgoing-addresses.md, which names the registry of each range.
"""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Reach(StrEnum):
    """What kind of place an address is."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    # Link-local, metadata services, multicast, unassigned, translated and tunnelled ranges: no upstream stands there.
    FORBIDDEN = "forbidden"


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part) for part in text.split())


# Single addresses that clouds answer on with credentials or machine identity, also inside otherwise harmless ranges.
_METADATA: Final = _networks(
    "169.254.169.254 169.254.170.2 169.254.170.23 168.63.129.16 100.100.100.200 192.0.0.192 "
    "fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fe80::a9fe:a9fe"
)
_LOOPBACK: Final = _networks("127.0.0.0/8 ::1/128")
_PRIVATE: Final = _networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7")
_FORBIDDEN_4: Final = _networks(
    "0.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
    "224.0.0.0/4 240.0.0.0/4"
)
# IPv6 is closed by default: global unicast alone, and of that not what is documentation, benchmark, or a tunnel.
_GLOBAL_6: Final = ip_network("2000::/3")
_FORBIDDEN_6: Final = _networks("2001::/23 2001:db8::/32 2002::/16 3fff::/20")
_TRANSLATED: Final = ip_network("64:ff9b::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def reach(address: Address) -> Reach:
    """What kind of place an address is; an IPv6 form that carries an IPv4 address is judged by that.

    Args:
        address: as connected to, or as resolved.
    """
    if isinstance(address, IPv6Address):
        carried = _carried(address)
        if carried is not None:
            # What is only a way to write an IPv4 address is that address; a translator's or a tunnel's never is public.
            inner = reach(carried)
            is_plain = address.ipv4_mapped is not None
            return inner if is_plain or inner is not Reach.PUBLIC else Reach.FORBIDDEN
        if address.scope_id is not None:
            return Reach.FORBIDDEN
    if any(address in network for network in _METADATA):
        return Reach.FORBIDDEN
    if any(address in network for network in _LOOPBACK):
        return Reach.LOOPBACK
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, IPv4Address):
        return Reach.FORBIDDEN if any(address in network for network in _FORBIDDEN_4) else Reach.PUBLIC
    if address not in _GLOBAL_6 or any(address in network for network in _FORBIDDEN_6):
        return Reach.FORBIDDEN
    return Reach.PUBLIC


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (RFC 6052), 6to4, ISATAP."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    bits = int(address)
    if address in _TRANSLATED or (bits >> 32 == 0 and bits > 1):
        return IPv4Address(bits & 0xFFFFFFFF)
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        return IPv4Address(bits & 0xFFFFFFFF)
    return None


class Outlets:
    """Where this deployment's requests may go.

    Args:
        allowed: networks that the operator opened, in CIDR form; they win over everything.
        is_loopback_allowed: evaluation mode, for a model server on the same machine.
        own_ports: ports of ours on loopback, which stay closed even so.
    """

    def __init__(
        self, allowed: Iterable[str] = (), *, is_loopback_allowed: bool = False, own_ports: Iterable[int] = ()
    ) -> None:
        self.allowed = tuple(ip_network(text, strict=False) for text in allowed)
        self.is_loopback_allowed = is_loopback_allowed
        self.own_ports = frozenset(own_ports)

    def refusal(self, address: Address, port: int, *, host: str = "") -> str | None:
        """Why no connection may be made there, or None where it may.

        Args:
            address: the one that is connected to.
            host: the name that was asked for; one under `.internal` may stand at a private address.
        """
        plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
        kind = reach(address)
        if kind is Reach.LOOPBACK and port in self.own_ports:
            return "it is a port of this gateway"
        if any(plain in network for network in self.allowed):
            return None
        if kind is Reach.PUBLIC:
            return None
        if kind is Reach.LOOPBACK and self.is_loopback_allowed:
            return None
        if kind is Reach.PRIVATE and is_internal(host):
            return None
        if kind is Reach.FORBIDDEN:
            return "it is an address that no upstream may have"
        return f"it is a {kind} address, which the operator has not allowed"


def is_internal(host: str) -> bool:
    """Whether a host name is of the private zone `.internal`."""
    return host.rstrip(".").lower().endswith(".internal")
