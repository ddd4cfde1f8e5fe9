"""Holds: gateway_core.addresses

Where a request may go: one list, every dangerous form.
"""

import pytest

from gateway_core.addresses import (
    WANTS_TLS,
    AddressClass,
    AddressPolicy,
    classify,
    neighbourhood,
    parse,
    parse_networks,
)

LOOPBACK, PRIVATE, LINK_LOCAL = AddressClass.LOOPBACK, AddressClass.PRIVATE, AddressClass.LINK_LOCAL
METADATA, RESERVED = AddressClass.METADATA, AddressClass.RESERVED


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("8.8.8.8", None),
        ("1.1.1.1", None),
        ("172.32.0.1", None),
        ("2606:4700::1111", None),
        ("2a00:1450:4001:80b::200e", None),
        ("::ffff:8.8.8.8", None),
        ("10.0.0.1", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.31.255.255", PRIVATE),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fc00::1", PRIVATE),
        ("fdff::1", PRIVATE),
        ("::ffff:10.0.0.1", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.255.255.254", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("::127.0.0.1", RESERVED),
        ("64:ff9b::127.0.0.1", RESERVED),
        ("2002:7f00:1::", RESERVED),
        ("0.0.0.0", RESERVED),
        ("0.1.2.3", RESERVED),
        ("169.254.169.254", METADATA),
        ("169.254.170.2", METADATA),
        ("168.63.129.16", METADATA),
        ("100.100.100.200", METADATA),
        ("192.0.0.192", METADATA),
        ("192.0.2.1", RESERVED),
        ("198.18.0.1", RESERVED),
        ("198.51.100.1", RESERVED),
        ("203.0.113.1", RESERVED),
        ("192.88.99.1", RESERVED),
        ("224.0.0.1", RESERVED),
        ("239.255.255.255", RESERVED),
        ("240.0.0.1", RESERVED),
        ("255.255.255.255", RESERVED),
        ("::", RESERVED),
        ("::ffff:169.254.169.254", METADATA),
        ("::169.254.169.254", METADATA),
        ("64:ff9b::169.254.169.254", METADATA),
        ("64:ff9b::8.8.8.8", RESERVED),
        ("64:ff9b:1::1", RESERVED),
        ("2002:a9fe:a9fe::", METADATA),
        ("2002:808:808::", RESERVED),
        ("2001::1", RESERVED),
        ("2001:db8::1", RESERVED),
        ("3fff::1", RESERVED),
        ("fe80::1", LINK_LOCAL),
        ("fe80::a9fe:a9fe", LINK_LOCAL),
        ("fe80::1%eth0", LINK_LOCAL),
        ("2606:4700::5efe:127.0.0.1", RESERVED),
        ("2606:4700::200:5efe:169.254.169.254", METADATA),
        ("fec0::1", RESERVED),
        ("ff02::1", RESERVED),
        ("100::1", RESERVED),
        ("5f00::1", RESERVED),
        ("fd00:ec2::254", METADATA),
        ("fd20:ce::254", METADATA),
    ],
)
def test_an_address_is_of_one_kind(text, kind):
    assert classify(parse(text)) is kind


PRODUCTION = AddressPolicy()
INTERNAL = AddressPolicy(private=True)


@pytest.mark.parametrize(
    ("policy", "text", "is_open"),
    [
        (PRODUCTION, "8.8.8.8", True),
        (PRODUCTION, "127.0.0.1", False),
        (PRODUCTION, "10.0.0.1", False),
        (PRODUCTION, "no address", False),
        (PRODUCTION, "", False),
        (INTERNAL, "10.0.0.1", True),
        (INTERNAL, "8.8.8.8", True),
        (INTERNAL, "127.0.0.1", False),
        (INTERNAL, "169.254.0.1", False),
        (INTERNAL, "169.254.169.254", False),
        (INTERNAL, "100.100.100.200", False),
    ],
)
def test_without_the_operators_word_only_the_internet_and_for_internal_names_private_networks_are_reached(
    policy, text, is_open
):
    assert (policy.refusal(text, 443) is None) == is_open


def test_the_operator_opens_networks_and_evaluation_opens_loopback_but_never_our_own_ports():
    policy = AddressPolicy(allowed=parse_networks(["10.1.0.0/16"]), loopback=True, own_ports=frozenset({8000}))

    assert policy.refusal("10.1.2.3", 80) is None
    assert policy.refusal("::ffff:10.1.2.3", 80) is None
    assert policy.refusal("10.2.0.1", 80)
    assert policy.refusal("127.0.0.1", 11434) is None
    assert policy.refusal("::1", 11434) is None
    for own in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.3.2.1", "0.0.0.0", "::"):
        assert policy.refusal(own, 8000)


def test_even_an_open_loopback_network_keeps_our_own_ports_closed():
    policy = AddressPolicy(
        allowed=parse_networks(["127.0.0.0/8", "0.0.0.0/0"]), anywhere=True, own_ports=frozenset({8000})
    )

    assert policy.refusal("127.0.0.1", 8000)
    assert policy.refusal("0.0.0.0", 8000)


def test_metadata_is_reached_only_where_the_operator_names_its_very_address():
    wide = AddressPolicy(
        allowed=parse_networks(["169.254.0.0/16", "64:ff9b::/96", "::/0"]), private=True, loopback=True
    )

    for address in ("169.254.169.254", "64:ff9b::169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"):
        assert wide.refusal(address, 80)
    assert wide.refusal("169.254.1.1", 80) is None
    assert wide.refusal("64:ff9b::8.8.8.8", 80) is None
    assert AddressPolicy(allowed=parse_networks(["169.254.169.254"])).refusal("169.254.169.254", 80) is None


def test_what_may_not_go_over_the_internet_in_clear_still_reaches_what_the_operator_allows():
    policy = AddressPolicy(allowed=parse_networks(["10.0.0.0/8", "8.8.4.0/24"]), internet=False)

    assert policy.refusal("8.8.8.8", 80) == WANTS_TLS
    assert policy.refusal("8.8.4.4", 80) is None
    assert policy.refusal("10.0.0.1", 80) is None


@pytest.mark.parametrize("text", ["10.0.0.1/8", "ten", "300.0.0.0/8"])
def test_a_setting_that_names_no_network_is_refused(text):
    with pytest.raises(ValueError, match=r"\w|^$"):
        parse_networks([text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("", ""),
    ],
)
def test_the_neighbourhood_of_an_ipv6_address_is_its_64(text, expected):
    assert neighbourhood(text) == expected
