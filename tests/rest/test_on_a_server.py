"""Holds: gateway_admin.wsgi, rest.parsers

What only a real server shows: raw HTTP, lengths that lie, HEAD, and a database that goes away.
"""

import os
import time
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit, urlunsplit

import psycopg
import pytest

from tests.live import ControlPlane, control_plane
from tests.patience import stretched, wait_until

# One server for all tests of this module.
pytestmark = pytest.mark.xdist_group("server")

TOO_MUCH = 1024 * 1024 + 1


@pytest.fixture(scope="module")
def plane():
    with control_plane(os.environ["DATABASE_URL"]) as running:
        yield running


def raw(plane: ControlPlane, method: str, *headers: str, token: str = "") -> bytes:
    lines = [
        f"{method} /access-keys HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: application/json",
        f"Authorization: Bearer {token or plane.token}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def wait_until_answered(plane: ControlPlane) -> None:
    def is_answered() -> bool:
        status = plane.request("GET", "/access-keys").status
        assert status in {200, 503}
        return status == 200

    wait_until(is_answered, what="the database is back")


def test_a_chunked_body_is_read_like_any_other(plane):
    answer = plane.exchange(raw(plane, "POST", "Transfer-Encoding: chunked") + chunked(b'{"name":', b' "in pieces"}'))

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b'"name":"in pieces"' in answer


def test_a_chunked_body_over_one_mebibyte_is_refused(plane):
    piece = b" " * 65536
    answer = plane.exchange(raw(plane, "POST", "Transfer-Encoding: chunked") + chunked(*[piece] * 17))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"errorCode":"body_too_large"' in answer


def test_a_body_over_one_mebibyte_is_refused_by_its_length_alone(plane):
    answer = plane.exchange(raw(plane, "POST", f"Content-Length: {TOO_MUCH}") + b"{}")

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_of_one_mebibyte_is_read(plane):
    body = b'{"name": 1' + b" " * (TOO_MUCH - 12) + b"}"

    answer = plane.request("POST", "/access-keys", body)

    assert answer.status == 422
    assert answer.json()["details"] == {"name": "This must be a string."}


def test_what_follows_a_body_that_is_longer_than_its_length_is_no_part_of_it(plane):
    answer = plane.exchange(raw(plane, "POST", "Content-Length: 2") + b'{}, "name": "smuggled"}')

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"smuggled" not in answer


def test_a_body_that_never_ends_is_not_waited_for_before_the_caller_is_known(plane):
    begun = time.monotonic()
    answer = plane.exchange(raw(plane, "POST", "Content-Length: 200", token="gwa_wrong") + b"{", timeout=stretched(10))

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert time.monotonic() - begun < stretched(8)


@pytest.mark.parametrize("path", ["/access-keys", "/access-keys/none", "/api-keys", "/healthz", "/readyz", "/docs"])
def test_head_has_the_status_and_the_headers_of_get_and_no_body(plane, path):
    get, head = (plane.request(method, path) for method in ("GET", "HEAD"))

    for answer in (get, head):
        for changing in ("date", "set-cookie"):
            answer.headers.pop(changing, None)
    assert head.status == get.status
    assert head.headers == get.headers
    assert head.headers["content-length"] == str(len(get.body))
    assert head.body == b""


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "TRACE", "PURGE"])
def test_a_method_that_a_resource_does_not_know_is_405_with_those_it_knows(plane, method):
    answer = plane.request(method, "/access-keys")

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["errorCode"] == "method_not_allowed"


def test_a_trailing_slash_is_404_and_no_redirect(plane):
    answer = plane.request("GET", "/access-keys/")

    assert (answer.status, answer.json()["errorCode"]) == (404, "not_found")


def test_a_foreign_host_header_is_refused_in_the_apis_own_form(plane):
    answer = plane.request("GET", "/access-keys", host="evil.example")

    assert (answer.status, answer.json()["errorCode"]) == (400, "request_malformed")
    assert "evil" not in answer.body.decode()


@pytest.mark.parametrize("path", ["/access-keys/%00", "/access-keys/%ff", "/access-keys/a%0ab", "/%00", "/%ff%fe"])
def test_a_path_of_odd_bytes_is_404(plane, path):
    assert plane.request("GET", path).status == 404


@pytest.mark.parametrize("query", ["beforeId=%00", "beforeId=%ff", "limit=%00", "limit=%D9%A5"])
def test_a_query_of_odd_bytes_is_400(plane, query):
    assert plane.request("GET", f"/access-keys?{query}").status == 400


def test_the_docs_page_names_only_files_that_this_server_has(plane):
    page = plane.request("GET", "/docs", token=None)

    assert page.status == 200
    names = [part.split('"')[0] for part in page.body.decode().split('src="')[1:]]
    assert names
    for name in names:
        assert name.startswith(("/static/", "/docs?"))
        assert plane.request("GET", name, token=None).status == 200


def take_writes(plane: ControlPlane, *, does: bool) -> None:
    """Have every new connection of the plane's database take no writes, or take them again."""
    url = urlsplit(plane.environ["DATABASE_URL"])
    name = url.path[1:]
    with psycopg.connect(urlunsplit(url._replace(path="/postgres")), autocommit=True) as connection:
        value = "off" if does else "on"
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def test_a_database_that_takes_no_writes_answers_reads_and_refuses_writes_for_a_while(plane):
    made = plane.request("POST", "/access-keys", {"name": "before"}).json()
    with psycopg.connect(plane.environ["DATABASE_URL"]) as connection:
        # So that the next request would write when its API key was last used.
        connection.execute("UPDATE accounts_apikey SET last_used = NULL")
    take_writes(plane, does=False)
    try:
        wait_until_answered(plane)

        ready, metrics = plane.request("GET", "/readyz"), plane.request("GET", "/metrics").body.decode()
        assert (ready.status, ready.json()["checks"]["database"]) == (200, "read_only")
        assert "gateway_database_read_only 1.0" in metrics
        read = plane.request("GET", f"/access-keys/{made['id']}")
        assert (read.status, read.json()["name"]) == (200, "before")
        for method, path, body in (
            ("POST", "/access-keys", {"name": "x"}),
            ("PATCH", f"/access-keys/{made['id']}", {"name": "x"}),
            ("DELETE", f"/access-keys/{made['id']}", None),
            ("PATCH", "/gateway-config", {"totalTimeout": "5s"}),
        ):
            answer = plane.request(method, path, body)
            assert (answer.status, answer.json()["errorCode"]) == (503, "database_read_only"), path
            assert answer.headers["retry-after"] == "5"
        page = plane.request("GET", "/dashboard/login", token=None)
        cookie = SimpleCookie(page.headers["set-cookie"])["csrf"]
        form = urlencode({"login": "nobody", "password": "wrong", "csrfmiddlewaretoken": cookie.value}).encode()
        headers = {"content_type": "application/x-www-form-urlencoded", "origin": plane.url}
        tried = plane.request("POST", "/dashboard/login", form, token=None, cookie=f"csrf={cookie.value}", **headers)
        assert (page.status, tried.status) == (200, 503)
    finally:
        take_writes(plane, does=True)

    wait_until(lambda: plane.request("GET", "/readyz").json()["checks"]["database"] == "ok", what="writes are taken")
    assert plane.request("DELETE", f"/access-keys/{made['id']}").status == 204


def test_a_failing_database_is_503_and_never_401_and_is_over_when_it_is_back(postgres_server, redis_server):
    server, redis = postgres_server(throwaway=False), redis_server()
    with control_plane(server.url, REDIS_URL=redis.url) as plane:
        assert plane.request("GET", "/access-keys").status == 200

        server.stop()
        refused = plane.request("GET", "/access-keys")
        unready = plane.request("GET", "/readyz", token=None)
        server.start()
        wait_until_answered(plane)

        server.pause()
        begun = time.monotonic()
        silent = plane.request("GET", "/access-keys")
        waited = time.monotonic() - begun
        server.resume()
        wait_until_answered(plane)

        ready = plane.request("GET", "/readyz", token=None)
        redis.stop()
        without_redis = plane.request("GET", "/readyz", token=None)
        alive = plane.request("GET", "/healthz", token=None)
        written = plane.request("POST", "/access-keys", {})

    for answer in (refused, silent):
        assert (answer.status, answer.json()["errorCode"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert (unready.status, unready.json()["errorCode"]) == (503, "not_ready")
    assert unready.json()["details"] == {"database": "unreachable"}
    assert ready.status == 200
    assert (without_redis.status, without_redis.json()["details"]) == (503, {"redis": "unreachable"})
    assert alive.status == 200
    assert written.status == 201, "a dead Redis is no reason to refuse a write"
    assert waited < stretched(15)
