"""Holds: tests.servers

The test run's own environment.
"""

import os
import socket

import pytest
from redis import Redis


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_finds_an_empty_redis(redis, attempt):
    assert redis.dbsize() == 0

    redis.set("left", attempt)


def test_no_test_process_has_the_private_sealing_key_in_its_environment(sealing_private_key):
    assert sealing_private_key
    assert not [name for name, value in os.environ.items() if sealing_private_key in value]


@pytest.mark.parametrize("host", ["192.0.2.1", "169.254.169.254", "example.com", "0.0.0.0"])
def test_a_connection_to_another_host_is_refused(host):
    with socket.socket() as probe, pytest.raises((RuntimeError, socket.gaierror)):
        probe.connect((host, 80))


def test_names_do_not_resolve_but_literals_in_any_spelling_do():
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.com", 80)

    for literal in ("127.0.0.1", "::1", "0x7f000001", "127.1", "169.254.169.254", "①②⑦.0.0.1", "localhost"):
        assert socket.getaddrinfo(literal, 80)


def test_a_redis_that_was_restarted_finds_its_data_again(redis_server):
    server = redis_server()
    with Redis.from_url(server.url) as client:
        client.set("kept", "yes")

    server.restart()

    with Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


@pytest.mark.xdist_group("alone")
def test_a_group_of_tests_is_kept_on_one_worker(request):
    """pytest-xdist marks it in the test's ID; a version that did not once ran every group on all workers, silently."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@alone")
