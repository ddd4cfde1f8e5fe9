"""Where a request may go: one list, every dangerous form."""

from ipaddress import ip_address

import pytest

from gateway_core.addresses import Outlets, Reach, is_internal, reach


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("1.1.1.1", Reach.PUBLIC),
        ("172.32.0.1", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("2a00:1450:4001:80b::200e", Reach.PUBLIC),
        ("::ffff:8.8.8.8", Reach.PUBLIC),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("172.31.255.255", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fc00::1", Reach.PRIVATE),
        ("fdff::1", Reach.PRIVATE),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.255.255.254", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::127.0.0.1", Reach.LOOPBACK),
        ("64:ff9b::127.0.0.1", Reach.LOOPBACK),
        ("2002:7f00:1::", Reach.LOOPBACK),
        ("0.0.0.0", Reach.FORBIDDEN),
        ("0.1.2.3", Reach.FORBIDDEN),
        ("169.254.169.254", Reach.FORBIDDEN),
        ("169.254.170.2", Reach.FORBIDDEN),
        ("168.63.129.16", Reach.FORBIDDEN),
        ("100.100.100.200", Reach.FORBIDDEN),
        ("192.0.0.192", Reach.FORBIDDEN),
        ("192.0.2.1", Reach.FORBIDDEN),
        ("198.18.0.1", Reach.FORBIDDEN),
        ("198.51.100.1", Reach.FORBIDDEN),
        ("203.0.113.1", Reach.FORBIDDEN),
        ("192.88.99.1", Reach.FORBIDDEN),
        ("224.0.0.1", Reach.FORBIDDEN),
        ("239.255.255.255", Reach.FORBIDDEN),
        ("240.0.0.1", Reach.FORBIDDEN),
        ("255.255.255.255", Reach.FORBIDDEN),
        ("::", Reach.FORBIDDEN),
        ("::ffff:169.254.169.254", Reach.FORBIDDEN),
        ("::169.254.169.254", Reach.FORBIDDEN),
        ("64:ff9b::169.254.169.254", Reach.FORBIDDEN),
        ("64:ff9b::8.8.8.8", Reach.FORBIDDEN),
        ("64:ff9b:1::1", Reach.FORBIDDEN),
        ("2002:a9fe:a9fe::", Reach.FORBIDDEN),
        ("2002:808:808::", Reach.FORBIDDEN),
        ("2001::1", Reach.FORBIDDEN),
        ("2001:db8::1", Reach.FORBIDDEN),
        ("3fff::1", Reach.FORBIDDEN),
        ("fe80::1", Reach.FORBIDDEN),
        ("fe80::a9fe:a9fe", Reach.FORBIDDEN),
        ("fe80::1%eth0", Reach.FORBIDDEN),
        ("2606:4700::1111%eth0", Reach.FORBIDDEN),
        ("2606:4700::5efe:127.0.0.1", Reach.LOOPBACK),
        ("2606:4700::200:5efe:169.254.169.254", Reach.FORBIDDEN),
        ("fec0::1", Reach.FORBIDDEN),
        ("ff02::1", Reach.FORBIDDEN),
        ("100::1", Reach.FORBIDDEN),
        ("5f00::1", Reach.FORBIDDEN),
        ("fd00:ec2::254", Reach.FORBIDDEN),
        ("fd20:ce::254", Reach.FORBIDDEN),
    ],
)
def test_an_address_is_of_one_kind(text, kind):
    assert reach(ip_address(text)) is kind


@pytest.mark.parametrize(
    ("text", "host", "is_open"),
    [
        ("8.8.8.8", "api.example.com", True),
        ("127.0.0.1", "localhost", False),
        ("10.0.0.1", "api.example.com", False),
        ("10.0.0.1", "ollama.internal", True),
        ("10.0.0.1", "Ollama.INTERNAL.", True),
        ("10.0.0.1", "internal", False),
        ("10.0.0.1", "notinternal", False),
        ("127.0.0.1", "ollama.internal", False),
        ("169.254.169.254", "metadata.google.internal", False),
        ("100.100.100.200", "x.internal", False),
    ],
)
def test_without_the_operators_word_only_public_and_internal_names_are_reached(text, host, is_open):
    assert (Outlets().refusal(ip_address(text), 443, host=host) is None) == is_open


def test_the_operator_opens_networks_and_evaluation_opens_loopback_but_never_our_own_ports():
    outlets = Outlets(["10.1.0.0/16"], is_loopback_allowed=True, own_ports=[8000])

    assert outlets.refusal(ip_address("10.1.2.3"), 80) is None
    assert outlets.refusal(ip_address("::ffff:10.1.2.3"), 80) is None
    assert outlets.refusal(ip_address("10.2.0.1"), 80)
    assert outlets.refusal(ip_address("127.0.0.1"), 11434) is None
    assert outlets.refusal(ip_address("::1"), 11434) is None
    for own in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.3.2.1"):
        assert outlets.refusal(ip_address(own), 8000)


def test_even_an_open_loopback_network_keeps_our_own_ports_closed():
    assert Outlets(["127.0.0.0/8"], own_ports=[8000]).refusal(ip_address("127.0.0.1"), 8000)


def test_a_name_is_internal_by_its_last_label():
    assert is_internal("a.internal")
    assert not is_internal("a.internal.example.com")
