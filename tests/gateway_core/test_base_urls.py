"""Holds: gateway_core.base_urls

How a base URL is read: once, in one way, as a resolver would.
"""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.addresses import parse_networks
from gateway_core.base_urls import BaseUrlRefused, UpstreamRules, parse, parse_hosts
from gateway_core.catalog import Surface
from tests import hostile_urls

PRODUCTION = UpstreamRules()
EVALUATION = UpstreamRules(loopback=True, own_ports=frozenset({8000, 8001}))


def is_refused(rules, text, *addresses):
    try:
        return rules.refusal(parse(text), addresses) is not None
    except BaseUrlRefused:
        return True


def test_there_are_enough_hostile_urls_and_no_two_alike():
    hostile = (*hostile_urls.NEVER, *hostile_urls.INWARD)

    assert len(hostile) >= 120
    assert len(set(hostile)) == len(hostile)


@pytest.mark.parametrize("text", hostile_urls.NEVER)
def test_no_operator_opens_what_is_malformed_ambiguous_or_metadata(text):
    everything = UpstreamRules(
        networks=parse_networks(["10.0.0.0/8", "127.0.0.0/8", "169.254.169.0/24"]),
        hosts=frozenset({"example.com", "*.com", "localhost"}),
        loopback=True,
    )

    assert is_refused(PRODUCTION, text)
    assert is_refused(everything, text)


@pytest.mark.parametrize("text", hostile_urls.INWARD)
def test_in_production_nothing_turns_inward_or_goes_out_in_clear(text):
    assert is_refused(PRODUCTION, text)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("https://api.example.com", "https://api.example.com/v1"),
        ("https://api.example.com/", "https://api.example.com/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("HTTPS://API.Example.COM/V1", "https://api.example.com/V1"),
        ("https://api.example.com:443/v1", "https://api.example.com/v1"),
        ("https://api.example.com:8443", "https://api.example.com:8443/v1"),
        ("http://ollama.internal:80/", "http://ollama.internal/v1"),
        ("https://api.example.com./v1", "https://api.example.com/v1"),
        ("https://api.example.com?api-version=1", "https://api.example.com/v1?api-version=1"),
        ("https://api.example.com/d/x?api-version=1&b=%20", "https://api.example.com/d/x?api-version=1&b=%20"),
        ("https://api.example.com/v1?", "https://api.example.com/v1"),
        ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
        ("https://BÜCHER.example/v1", "https://xn--bcher-kva.example/v1"),
        ("https://my_ollama.example/v1", "https://my_ollama.example/v1"),
        ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ("https://134744072/v1", "https://8.8.8.8/v1"),
        ("https://⑧.8。8．8/v1", "https://8.8.8.8/v1"),
        ("https://[2606:4700:0:0::1111]/v1", "https://[2606:4700::1111]/v1"),
        ("https://[2606:4700::1111]:8443/v1", "https://[2606:4700::1111]:8443/v1"),
        ("https://[::ffff:8.8.8.8]/v1", "https://8.8.8.8/v1"),
        ("https://api.example.com/v1/p:q@r;s,t", "https://api.example.com/v1/p:q@r;s,t"),
        ("https://3com.com/v1", "https://3com.com/v1"),
        ("https://0x7f.example/", "https://0x7f.example/v1"),
    ],
)
def test_both_planes_go_on_with_the_canonical_text(written, canonical):
    assert parse(written).text == canonical
    assert parse(canonical).text == canonical


def test_a_surface_comes_after_the_path_and_before_the_query():
    azure = parse("https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21")

    assert azure.at(Surface.CHAT_COMPLETIONS.path) == (
        "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    )
    assert parse("https://example.com").at(Surface.MESSAGES.path) == "https://example.com/v1/messages"


@pytest.mark.parametrize(
    ("rules", "text", "addresses", "is_open"),
    [
        (PRODUCTION, "https://api.example.com/v1", [], True),
        (PRODUCTION, "https://api.example.com/v1", ["93.184.215.14", "2606:2800:21f::1"], True),
        (PRODUCTION, "https://api.example.com/v1", ["93.184.215.14", "10.0.0.1"], False),
        (PRODUCTION, "https://api.example.com/v1", ["::ffff:127.0.0.1"], False),
        (PRODUCTION, "https://api.example.com/v1", ["fe80::1%eth0"], False),
        (PRODUCTION, "http://api.example.com/v1", [], False),
        (PRODUCTION, "http://ollama.internal/v1", [], True),
        (PRODUCTION, "http://ollama.INTERNAL./v1", ["10.0.0.1"], True),
        (PRODUCTION, "https://ollama.internal/v1", ["10.0.0.1"], True),
        (PRODUCTION, "http://ollama.internal/v1", ["127.0.0.1"], False),
        (PRODUCTION, "http://metadata.google.internal/v1", ["169.254.169.254"], False),
        (PRODUCTION, "http://localhost:11434/v1", [], False),
        (EVALUATION, "http://localhost:11434/v1", [], True),
        (EVALUATION, "http://127.0.0.1:11434", [], True),
        (EVALUATION, "http://[::1]:11434", [], True),
        (EVALUATION, "http://127.1:11434", [], True),
        (EVALUATION, "http://host:11434", ["127.0.1.1"], True),
        (EVALUATION, "http://localhost:8000/v1", [], False),
        (EVALUATION, "http://127.9.9.9:8001/v1", [], False),
        (EVALUATION, "https://0.0.0.0:8001/v1", [], False),
        (EVALUATION, "http://ollama.internal/v1", ["127.0.0.1"], False),
        (EVALUATION, "http://10.0.0.1/v1", [], False),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://10.1.2.3/v1", [], True),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://10.2.2.3/v1", [], False),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://gpu:8000/v1", ["10.1.0.9"], True),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://gpu:8000/v1", ["8.8.8.8"], False),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://gpu:8000/v1", [], False),
        (UpstreamRules(hosts=parse_hosts(["GPU.lan"])), "http://gpu.lan/v1", [], True),
        (UpstreamRules(hosts=parse_hosts(["gpu.lan"])), "http://gpu.lan/v1", ["192.168.1.9"], True),
        (UpstreamRules(hosts=parse_hosts(["gpu.lan"])), "http://gpu.lan/v1", ["169.254.169.254"], False),
        (UpstreamRules(hosts=parse_hosts(["gpu.lan"])), "http://cpu.lan/v1", ["192.168.1.9"], False),
        (UpstreamRules(hosts=parse_hosts(["*.lan"])), "http://a.gpu.lan/v1", ["192.168.1.9"], True),
        (UpstreamRules(hosts=parse_hosts(["*.lan"])), "http://lan/v1", ["192.168.1.9"], False),
        (UpstreamRules(hosts=parse_hosts(["*.lan"])), "http://a.lan.example.com/v1", ["192.168.1.9"], False),
        (UpstreamRules(hosts=parse_hosts(["[::1]"])), "http://[::1]:11434/v1", [], True),
        (
            UpstreamRules(hosts=parse_hosts(["localhost"]), own_ports=frozenset({8001})),
            "http://localhost:8001",
            [],
            False,
        ),
    ],
)
def test_a_host_is_judged_by_its_name_and_by_everything_that_it_resolves_to(rules, text, addresses, is_open):
    assert (rules.refusal(parse(text), addresses) is None) == is_open


@pytest.mark.parametrize("text", ["two words", "*.*", "*.", "", "a..b", "[::1", "http://host"])
def test_a_setting_that_names_no_host_is_refused(text):
    with pytest.raises(ValueError, match=r"\w|^$"):
        parse_hosts([text])


def test_a_refusal_repeats_nothing_of_the_url():
    for text in (
        *hostile_urls.NEVER,
        *hostile_urls.INWARD,
        "https://sk-secret:sk-secret@sk-secret.example.com#sk-secret",
    ):
        try:
            reason = PRODUCTION.refusal(parse(text), [])
        except BaseUrlRefused as refusal:
            reason = str(refusal)
        assert reason
        assert "sk-secret" not in reason


@given(st.ip_addresses(v=4), st.sampled_from(["dotted", "number", "hex", "octal", "short", "parts"]))
def test_every_spelling_of_an_address_is_that_address(address, spelling):
    number = int(address)
    first, rest = number >> 24, number & 0xFFFFFF
    host = {
        "dotted": str(address),
        "number": str(number),
        "hex": hex(number),
        "octal": f"0{number:o}",
        "short": f"{first}.{rest}",
        "parts": ".".join(f"0{part:o}" if part % 2 else hex(part) for part in address.packed),
    }[spelling]

    read = parse(f"https://{host}/v1")

    assert read.address == str(address)


@given(st.text(max_size=60))
def test_whatever_is_accepted_reads_the_same_again(text):
    try:
        read = parse(f"https://{text}")
    except BaseUrlRefused:
        return

    assert read.text.isascii()
    assert parse(read.text) == read


@given(st.text(alphabet="0123456789abcdefx.①②⑦。．:[]@/\\#?% -\u00ad", max_size=24))
def test_no_mixture_of_odd_characters_hides_this_machine(text):
    try:
        read = parse(f"https://{text}")
    except BaseUrlRefused:
        return

    is_inward = read.address is not None and not ipaddress.ip_address(read.address).is_global
    assert not is_inward or PRODUCTION.refusal(read, []) is not None
