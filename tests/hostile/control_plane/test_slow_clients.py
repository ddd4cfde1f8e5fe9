"""Holds: gateway_admin.asgi, gateway_admin.buffering, gateway_admin.connections

Clients without an API key, and clients with one, that do not send or do not read: everybody else is answered.
"""

import os
import select
import socket
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.live import control_plane
from tests.patience import PATIENCE, stretched, wait_until
from tests.tiers import number

pytestmark = pytest.mark.xdist_group("server")

# One more than the server has threads.
CROWD = number(9, full=500)
SCRIPT = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def plane():
    with control_plane(os.environ["DATABASE_URL"], STRIPE_WEBHOOK_SECRET="whsec_test") as running:
        yield running


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


def opening(plane, kind):
    """What a client of this kind sends before it falls silent."""
    token = f"Authorization: Bearer {plane.token}"
    form = "Content-Type: application/x-www-form-urlencoded"
    csrf = "a" * 32
    return {
        "silent": b"",
        "half a head": b"GET /healthz HTTP/1.1\r\nHost: loc",
        "a notice without its body": head("POST", "/webhooks/stripe", "Content-Length: 100") + b"{",
        "a sign-in without its body": head(
            "POST", "/dashboard/login", form, f"Cookie: csrf={csrf}", "Content-Length: 100"
        )
        + b"c",
        "a write without its body": head(
            "POST", "/access-keys", token, "Content-Type: application/json", "Content-Length: 100"
        )
        + b"{",
        "a chunked write without its end": head(
            "POST", "/access-keys", token, "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        + b"1\r\n{\r\n",
        # More than the system takes for a client that does not read.
        "a reader who does not read": head("GET", SCRIPT) * 4,
    }[kind]


def connect(plane, sent, *, address="127.0.0.1"):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.bind((address, 0))
    connection.settimeout(stretched(PATIENCE))
    connection.connect(("127.0.0.1", plane.port))
    connection.sendall(sent)
    return connection


@contextmanager
def crowd(plane, sent, count=CROWD):
    """That many connections, from fifty addresses."""
    with ExitStack() as opened:
        yield [opened.enter_context(connect(plane, sent, address=f"127.0.0.{2 + n % 50}")) for n in range(count)]


def assert_others_are_answered(plane):
    for method, path, body, status in (
        ("GET", "/healthz", None, 200),
        ("GET", "/access-keys", None, 200),
        ("POST", "/access-keys", {}, 201),
        ("GET", "/dashboard/login", None, 200),
        ("GET", SCRIPT, None, 200),
    ):
        began = time.monotonic()
        assert plane.request(method, path, body).status == status, path
        assert time.monotonic() - began < stretched(1), path


def closed(connection):
    """Whether the server has closed this connection; what it sent stays unread."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def everything(connection):
    received = b""
    # A server that closes before it has read all that was sent resets the connection behind its answer.
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "kind",
    [
        "silent",
        "half a head",
        "a notice without its body",
        "a sign-in without its body",
        "a write without its body",
        "a chunked write without its end",
        "a reader who does not read",
    ],
)
def test_a_crowd_of_slow_clients_costs_nobody_else_anything(plane, kind):
    with crowd(plane, opening(plane, kind)):
        assert_others_are_answered(plane)


def test_clients_of_all_kinds_at_once_cost_nobody_else_anything(plane):
    kinds = ("silent", "a notice without its body", "a reader who does not read")
    with ExitStack() as opened:
        for kind in kinds:
            opened.enter_context(crowd(plane, opening(plane, kind)))
        assert_others_are_answered(plane)


def test_a_connection_that_makes_no_progress_is_closed(plane):
    kinds = ("silent", "half a head", "a write without its body", "a reader who does not read")
    with ExitStack() as opened:
        silent, begun, writer, reader = [opened.enter_context(connect(plane, opening(plane, kind))) for kind in kinds]

        wait_until(lambda: closed(writer), what="a body has 10 s", within=15)
        wait_until(lambda: closed(silent) and closed(begun), what="a head has 10 s", within=15)
        wait_until(lambda: closed(reader), what="a reader has 20 s", within=30)

        assert everything(silent) == b""
        for late in (everything(begun), everything(writer)):
            assert late.startswith(b"HTTP/1.1 408 ")
            assert b'"errorCode":"request_timed_out"' in late
            assert b"connection: close" in late.lower()


def test_a_head_of_more_than_64_kib_is_refused(plane):
    answer = plane.exchange(f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {'a' * 70_000}".encode())

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"errorCode":"head_too_large"' in answer


def test_what_is_not_http_is_refused_in_the_apis_own_form(plane):
    answer = plane.exchange(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"errorCode":"request_malformed"' in answer


def test_a_notice_is_refused_before_its_body_where_payments_are_not_configured():
    with (
        control_plane(os.environ["DATABASE_URL"], STRIPE_WEBHOOK_SECRET="") as plane,
        connect(plane, opening(plane, "a notice without its body")) as connection,
    ):
        began = time.monotonic()
        answer = everything(connection)

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"errorCode":"checkout_not_configured"' in answer
    assert time.monotonic() - began < stretched(3)


def test_one_address_holds_no_more_than_its_share_of_the_connections():
    with (
        control_plane(os.environ["DATABASE_URL"], CONTROL_PLANE_CONNECTIONS_PER_ADDRESS="4") as plane,
        ExitStack() as opened,
    ):
        held = [opened.enter_context(connect(plane, b"", address="127.0.0.9")) for _ in range(6)]
        wait_until(lambda: [closed(one) for one in held].count(True) == 2, what="the silent make room")
        assert [closed(one) for one in held] == [True, True, False, False, False, False]

        script = opening(plane, "a reader who does not read")
        busy = [opened.enter_context(connect(plane, script, address="127.0.0.8")) for _ in range(4)]
        # Each is being answered.
        assert {one.recv(8) for one in busy} == {b"HTTP/1.1"}
        with connect(plane, head("GET", "/healthz"), address="127.0.0.8") as refused:
            answer = everything(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"errorCode":"busy"' in answer
        assert b"retry-after: 1" in answer.lower()
        assert not any(closed(one) for one in busy)
        assert_others_are_answered(plane)
