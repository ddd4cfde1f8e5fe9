"""Holds: local.run, gateway_core.redaction

One marked secret through every way in, and then a look everywhere that it must not be.

The whole gateway runs as `make run` starts it, with a stand-in upstream, so that every log, every Redis value and the
database are the real ones.
"""

import json
import os
import re
import subprocess
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import pytest
from redis import Redis

from local.embedded.postgres import find_installation

pytestmark = pytest.mark.xdist_group("run")

MARK = "MaRkEdSeCrEt"
BASE64_OF_MARK = "TWFSa0VkU2VDckV0"


def marked(number):
    """A provider key's value that is found again: its mask shows none of the mark."""
    return f"sk-{number:07d}{MARK}{number:04d}zzzz"


class Walk:
    """Requests with the mark in them, and all that was answered."""

    def __init__(self, run):
        self.run = run
        self.answers = []
        self.tokens = []

    def send(self, plane, method, path, body=None, *, token=None, headers=()):
        token = self.run.dev_env["AI_GATEWAY_API_KEY"] if token is None else token
        connection = HTTPConnection("127.0.0.1", urlsplit(self.run.dev_env[plane]).port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **dict(headers)}
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        self.answers.append((method, path, answer.status, text + str(answer.getheaders())))
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def api(self, method, path, body=None, **more):
        return self.send("CONTROL_PLANE_URL", method, path, body, **more)

    def app(self, method, path, body=None, **more):
        return self.send("DATA_PLANE_URL", method, path, body, **more)


@pytest.fixture(scope="module")
def walk(whole_gateway):
    """The gateway after every endpoint has been given the mark."""
    walk = Walk(whole_gateway)
    send_the_mark_everywhere(walk)
    return walk


def routed_inline(value):
    """A router that brings a new provider key along."""
    return {"rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "in", "value": value}]}]}]}


def send_the_mark_everywhere(walk):
    number = iter(range(1, 1000))

    def value():
        return marked(next(number))

    # Where it belongs.
    status, key = walk.api("POST", "/provider-keys", {"providerId": "openai", "name": "one", "value": value()})
    assert status == 201
    replayed = {"Idempotency-Key": f"retry-{MARK[:3]}"}
    for _ in range(2):
        twice = {"providerId": "openai", "name": "twice", "value": marked(900)}
        assert walk.api("POST", "/provider-keys", twice, headers=replayed.items())[0] == 201
    assert walk.api("POST", f"/provider-keys/{key['id']}/rotate", {"name": "one", "value": value()})[0] == 200
    inline = {
        "rules": [{"provider": "openai", "steps": [{"type": "user", "keys": [{"name": "in", "value": value()}]}]}]
    }
    status, configuration = walk.api("POST", "/access-key-configurations", {"name": "c", "router": inline})
    assert status == 201
    inline = routed_inline(value())
    path = f"/access-key-configurations/{configuration['id']}"
    assert walk.api("PATCH", path, {"router": inline})[0] == 200
    assert walk.api("POST", "/access-key-configurations/explain", {"model": "gpt-4o", "router": inline})[0] == 200
    _, access_key = walk.api("POST", "/access-keys", {"accessKeyConfigurationId": configuration["id"]})
    walk.tokens.append(access_key["token"])
    # Where it does not belong: a person's slip of the hand.
    for method, path in [
        ("POST", "/provider-keys"),
        ("PATCH", f"/provider-keys/{key['id']}"),
        ("POST", f"/provider-keys/{key['id']}/rotate"),
        ("POST", "/access-keys"),
        ("PATCH", f"/access-keys/{access_key['id']}"),
        ("POST", f"/access-keys/{access_key['id']}/explain"),
        ("POST", "/access-key-configurations"),
        ("POST", "/access-key-configurations/explain"),
        ("PATCH", f"/access-key-configurations/{configuration['id']}"),
        ("POST", "/api-keys"),
        ("POST", "/providers"),
        ("PATCH", "/gateway-config"),
    ]:
        for body in (
            {value(): "as a field's name"},
            {"value": [value()], "providerId": value(), "name": {"is": value()}},
            {"accessKeyConfigurationId": value(), "configurationId": value(), "model": 7, "totalTimeout": value()},
            {"access": {"providers": {"allow": [value()]}, "models": {"allow": [value(), f"openai:{value()}", 3]}}},
            {"router": {"rules": [{"provider": value(), "steps": [{"type": value(), "keys": [{"id": value()}]}]}]}},
            {"router": {"rules": [{"model": value(), "steps": [{"type": "user", "keys": [{"value": value()}]}]}]}},
            [value()],
            value(),
            f'{{"value": "{value()}"'.encode(),
            f'{{"value": "{value()}\x00"}}'.encode(),
        ):
            assert walk.api(method, path, body)[0] in {400, 404, 422}, (method, path, body)
    for query in ("limit", "beforeId", "provider", "cursor", "startTime"):
        for path in ("/access-keys", "/provider-keys", "/access-key-configurations", "/api-keys"):
            walk.api("GET", f"{path}?{urlencode({query: value()})}", token=None)
    walk.api("GET", "/access-keys", token=value())
    walk.api("GET", "/access-keys", headers={"If-Match": value(), "Idempotency-Key": value()}.items())
    walk.api("POST", "/access-keys", {"name": "n"}, headers={"Idempotency-Key": value()}.items())
    walk.api("PATCH", f"/access-keys/{access_key['id']}", {}, headers={"If-Match": value()}.items())
    # The data plane opens the values and sends them upstream; a key that the upstream refuses is named by its mask.
    refused = {"providerId": "groq", "name": "refused", "value": f"sk-x-429-{MARK}zzzz"}
    assert walk.api("POST", "/provider-keys", refused)[0] == 201
    token = walk.tokens[0]
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    assert walk.app("POST", "/v1/chat/completions", chat, token=token)[0] == 200
    assert walk.app("POST", "/v1/chat/completions", {**chat, "stream": True}, token=token)[0] == 200
    assert walk.app("POST", "/v1/chat/completions", {**chat, "model": "groq:x"}, token=token)[0] >= 400
    walk.app("POST", "/v1/chat/completions", {**chat, "model": marked(901)}, token=token)
    walk.app("POST", "/v1/chat/completions", f'{{"model": "{marked(902)}'.encode(), token=token)
    walk.app("GET", "/v1/models", token=token)
    walk.app("GET", "/v1/models", token=marked(903))
    walk.api("GET", "/openapi.json")
    walk.api("GET", "/provider-keys")
    walk.api("GET", "/access-key-configurations")


# The model name of a request is the caller's own text and is named in the refusal; a mark in it is no leak.
NAMED_BY_THE_CALLER = re.compile(rf"sk-0000901{MARK}0901zzzz")


def test_no_answer_repeats_a_value(walk):
    leaked = [
        (method, path.partition("?")[0], status)
        for method, path, status, text in walk.answers
        if MARK in NAMED_BY_THE_CALLER.sub("", text.replace(path, ""))
    ]

    assert not leaked


def test_no_log_holds_a_value_or_a_token(walk):
    logs = list((walk.run.var / "log").iterdir())
    assert len(logs) >= 7
    for log in logs:
        text = log.read_text(errors="replace")
        assert MARK not in text, log.name
        assert not [token for token in walk.tokens if token in text], log.name
        assert walk.run.dev_env["AI_GATEWAY_API_KEY"] not in text, log.name


def test_redis_holds_no_value_and_no_token(walk):
    with Redis.from_url(walk.run.dev_env["REDIS_URL"]) as client:
        dumped = b""
        for name in client.scan_iter(count=1000):
            kind = client.type(name)
            read = {
                b"string": client.get,
                b"hash": client.hgetall,
                b"stream": client.xrange,
                b"set": client.smembers,
                b"list": lambda one: client.lrange(one, 0, -1),
                b"zset": lambda one: client.zrange(one, 0, -1),
            }[kind]
            dumped += name + repr(read(name)).encode()

    assert b"providerKey:" in dumped
    assert MARK.encode() not in dumped
    assert BASE64_OF_MARK.encode() not in dumped
    assert not [token for token in walk.tokens if token.encode() in dumped]


def test_the_database_dump_holds_no_value_and_no_token(walk):
    url = walk.run.dev_env["DATABASE_URL"]
    dump = subprocess.run(
        [find_installation() / "bin" / "pg_dump", "--dbname", url],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout

    assert b"provider_keys_providerkey" in dump
    assert MARK.encode() not in dump
    assert MARK.encode().hex().encode() not in dump
    assert BASE64_OF_MARK.encode() not in dump
    assert not [token for token in walk.tokens if token.encode() in dump]


def test_the_dashboard_shows_no_value(walk):
    url = walk.run.dev_env["DASHBOARD_URL"]
    assert url.endswith("/dashboard/")
    status, page = walk.api("GET", "/dashboard/login")
    assert status == 200
    assert MARK not in page


def test_the_process_that_seals_was_given_no_private_key(walk):
    control_plane = walk.run.child("serve", "--host")
    for process in [control_plane, *control_plane.children(recursive=True)]:
        assert "SEALING_PRIVATE_KEYS" not in process.environ()
        assert "SEALING_PUBLIC_KEY" in process.environ()
    assert "SEALING_PRIVATE_KEYS" in walk.run.child("data_plane").environ()
